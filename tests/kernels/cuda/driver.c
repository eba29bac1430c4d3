// A stand-in for NVIDIA's driver (libcuda.so.1): the GPU's memory is the host's, and kernels do nothing.
//
// It is for what the host does: that everything compiles, is linked and launched by numba-cuda and NVIDIA's own bindings
// as they are, in which order, what waits for what, and what happens where the driver refuses. It cannot show what a
// kernel computes, whether the GPU would take its code, how streams overlap, or anything of speed.
//
// Programs reach it by ctypes: `fail` refuses a call, `calls` tells of all that were made, and the variables below say
// what the GPU is.
#include <cuda.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int version = 13000, capability = 90; // the CUDA version that it is for, and the GPU's compute capability, times ten
long arrays = 0;                      // that are allocated

static char *log_text;
static size_t log_size, log_room;
static const char *failing = "";
static int failing_in, failing_with;
static __thread CUcontext contexts[64]; // a thread's stack of them, the current one on top
static __thread int depth;

// Writes a line into the log; whether this call is to fail, and how.
static CUresult called(const char *name, const char *details, ...) {
    char line[1024];
    const size_t own = strcspn(name, "_"); // its name without the version
    int length = snprintf(line, sizeof line, "%.*s ", (int)own, name);
    va_list values;
    va_start(values, details);
    length += vsnprintf(line + length, sizeof line - length - 1, details, values);
    va_end(values);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    if (log_size + length + 1 > log_room)
        log_text = realloc(log_text, log_room = 2 * log_room + sizeof line);
    memcpy(log_text + log_size, line, length);
    log_text[log_size += length] = 0;
    return strlen(failing) == own && !strncmp(name, failing, own) && failing_in-- <= 0 ? failing_with : CUDA_SUCCESS;
}
#define CALLED(...)                                                                                                    \
    do {                                                                                                               \
        CUresult error = called(__func__, __VA_ARGS__);                                                                \
        if (error)                                                                                                     \
            return error;                                                                                              \
    } while (0)

// Refuse calls of this name by this error, after n more of them.
void fail(const char *name, int n, int error) {
    failing = strdup(name), failing_in = n, failing_with = error;
}

// What was called since the last time, a line each: its name and what is worth knowing. Valid until the next call.
const char *calls(void) {
    const char *text = log_size ? log_text : "";
    log_size = 0;
    return text;
}

static void *handle(void) { // a new one
    static long last = 0x7000;
    return (void *)(last += 16);
}

// The driver and its GPU
CUresult cuInit(unsigned flags) {
    CALLED("");
    return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *result) {
    *result = version;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    snprintf(name, length, "driver.c");
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    memset(uuid, 7, sizeof *uuid);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    *bytes = 1l << 37;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 48 << 10; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    default: *value = 1;
    }
    return CUDA_SUCCESS;
}

// Contexts: the GPU has one
static CUcontext primary = (CUcontext)0x1000;
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    CALLED("");
    *context = primary;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *flags = 0, *active = 1;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = depth ? contexts[depth - 1] : NULL;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
    depth -= depth > 0;
    if (context)
        contexts[depth++] = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext context) {
    contexts[depth++] = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *context) {
    if (!depth)
        return CUDA_ERROR_INVALID_CONTEXT;
    *context = contexts[--depth];
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    *device = 0;
    return depth ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuCtxSynchronize(void) {
    CALLED("");
    return CUDA_SUCCESS;
}

// Memory
CUresult cuMemGetInfo(size_t *left, size_t *total) {
    *left = 1l << 36, *total = 1l << 37;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    CALLED("%zu", bytes);
    if (!depth)
        return CUDA_ERROR_INVALID_CONTEXT;
    *address = (CUdeviceptr)aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset((void *)*address, 1, bytes); // what is read before it was written is seen
    arrays++;
    return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
    CALLED("");
    free((void *)address);
    arrays--;
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
    CALLED("%zu", bytes);
    memcpy((void *)to, from, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
    CALLED("%zu", bytes);
    memcpy(to, (void *)from, bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    CALLED("%zu", bytes);
    memcpy((void *)to, (void *)from, bytes);
    return CUDA_SUCCESS;
}

// Code
CUresult cuLibraryLoadData(
    CUlibrary *library, const void *code, CUjit_option *options, void **values, unsigned n, CUlibraryOption *others,
    void **other_values, unsigned n_others) {
    CALLED("");
    *library = handle();
    return CUDA_SUCCESS;
}
CUresult cuLibraryUnload(CUlibrary library) {
    return CUDA_SUCCESS;
}
CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    *kernel = (CUkernel)strdup(name); // a kernel is its name
    return CUDA_SUCCESS;
}
CUresult cuLibraryGetModule(CUmodule *module, CUlibrary library) {
    *module = (CUmodule)library;
    return CUDA_SUCCESS;
}
CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
    *function = (CUfunction)kernel;
    return CUDA_SUCCESS;
}
CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    *value = 32;
    return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction kernel, void **args, void **extra) {
    const unsigned x = config->gridDimX, y = config->gridDimY, z = config->gridDimZ;
    CALLED("%lx %s", (long)config->hStream, (const char *)kernel);
    if (!x || !y || !z || x > 2147483647u || y > 65535 || z > 65535 || !config->blockDimX || config->blockDimX > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

// Streams and graphs. A capture takes what is launched on its stream, and nothing else may happen while it lasts
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    *stream = handle();
    CALLED("%lx", (long)*stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    CALLED("%lx", (long)stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    CALLED("%lx", (long)stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    CALLED("%lx", (long)stream);
    *graph = handle();
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
    CALLED("");
    *executable = handle();
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) {
    CALLED("");
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    CALLED("%lx", (long)stream);
    return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
    CALLED("");
    return CUDA_SUCCESS;
}

// Names
CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_DRIVER_C";
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    return cuGetErrorName(error, text);
}

// Any of the functions above, some of which cuda.h gives a version.
CUresult cuGetProcAddress(
    const char *name, void **function, int cuda, cuuint64_t flags, CUdriverProcAddressQueryResult *found) {
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    char second[128];
    snprintf(second, sizeof second, "%s_v2", name);
    *function = dlsym(self, name);
    if (!*function)
        *function = dlsym(self, second);
    if (found)
        *found = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
