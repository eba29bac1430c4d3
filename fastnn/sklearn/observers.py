"""What the estimators do after each epoch: their records, and scikit-learn's rules of when to stop."""

import math
from typing import Any

from fastnn.sklearn.solvers import EpochRates
from fastnn.training.observers import Epoch, Observer

STALLED = {
    False: "Training loss did not improve more than tol={0.tol:f} for {0.n_iter_no_change} consecutive epochs.",
    True: "Validation score did not improve more than tol={0.tol:f} for {0.n_iter_no_change} consecutive epochs.",
}


class Records(Observer):
    """Counts an estimator's epochs of `n_rows` rows, and keeps their losses."""

    def __init__(self, estimator: Any, n_rows: int) -> None:
        self.estimator, self.n_rows = estimator, n_rows

    def epoch_ended(self, epoch: Epoch) -> None:
        """Add one."""
        of = self.estimator
        of.n_iter_, of.t_, of.loss_ = of.n_iter_ + 1, of.t_ + self.n_rows, epoch.logs["loss"]
        of.loss_curve_.append(of.loss_)
        of._say(f"Iteration {of.n_iter_}, loss = {of.loss_:.8f}")


class Best(Observer):
    """Notes what each epoch reached, with early_stopping also the parameters of the best; sets the next one's rate."""

    def __init__(self, estimator: Any, net: Any, rates: EpochRates) -> None:
        self.estimator, self.net, self.rates = estimator, net, rates
        self._parameters = net.parameters.copy() if estimator.early_stopping else None

    def epoch_ended(self, epoch: Epoch) -> None:
        """Look whether it is the best so far."""
        if self._improved(epoch.logs) and self._parameters is not None:
            self._parameters[...] = self.net.parameters
        self.rates.end_epoch(self.estimator.t_)

    def restore(self) -> None:
        """Give the network the best parameters, if they were kept."""
        if self._parameters is not None:
            self.net.parameters[...] = self._parameters

    def _improved(self, logs: dict[str, float]) -> bool:
        """Note what an epoch reached, and how many have passed without progress; whether it is the best so far."""
        of, score = self.estimator, logs.get("val_accuracy", logs.get("val_r2", math.nan))
        if "val_loss" in logs:
            of.validation_scores_ = [*(of.validation_scores_ or []), score]
            of.validation_loss_curve_ = [*(of.validation_loss_curve_ or []), logs["val_loss"]]
            of._say(f"Validation score: {score:f}")
        if not of.early_stopping:
            stalled, better = of.loss_ > of.best_loss_ - of.tol, of.loss_ < of.best_loss_
            of.best_loss_ = of.loss_ if better else of.best_loss_
        else:
            stalled, better = score < of.best_validation_score_ + of.tol, score > of.best_validation_score_
            of.best_validation_score_ = score if better else of.best_validation_score_
        of._no_improvement_count = of._no_improvement_count + 1 if stalled else 0
        return better


class NoChange(Observer):
    """Ends training, or lowers its rate, once n_iter_no_change epochs have brought nothing."""

    def __init__(self, estimator: Any, rates: EpochRates) -> None:
        self.estimator, self.rates = estimator, rates

    def together(self, left: int) -> int:
        """As many as there will be, whatever they bring, if their rate does not change from one to the next."""
        if self.rates.schedule == "invscaling":
            return 1
        return int(min(left, self.estimator.n_iter_no_change + 1 - self.estimator._no_improvement_count))

    def epoch_ended(self, epoch: Epoch) -> bool:
        """Whether training is to end."""
        of = self.estimator
        if of._no_improvement_count <= of.n_iter_no_change:
            return False
        ends = self.rates.stalled(STALLED[of.early_stopping].format(of), of._say)
        if not (ends or epoch.stopping):
            of._no_improvement_count = 0
        return ends


class Lost(Observer):
    """Ends training, before its last epoch, once the parameters are not finite: they never will be again."""

    def __init__(self, engine: Any, epochs: int) -> None:
        self.engine, self.epochs, self.lost = engine, epochs, False

    def epoch_ended(self, epoch: Epoch) -> bool:
        """Whether they are."""
        last = epoch.stopping or epoch.number + 1 == self.epochs
        self.lost = not last and not math.isfinite(epoch.logs["loss"]) and not self.engine.finite()
        return self.lost
