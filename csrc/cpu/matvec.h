// The product of a matrix with one vector: a linear layer at batch 1. See matmul.cpp for all others.
#pragma once
#include "activation.h"
#include "scratch.h"

namespace fastnn::FASTNN_TABLE {

bool is_matvec(const MatMul&);  // a single row of a, times b as it lies in a linear layer
void matvec(const Context&, const MatMul&, const T* x, const T* w, const R* bias, T* y);

}  // namespace fastnn::FASTNN_TABLE
