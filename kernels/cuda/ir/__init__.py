"""What is written below Python: vector loads, multiply-adds in registers, tensor cores."""
