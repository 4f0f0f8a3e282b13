// The structs that kernels take: geometry and hyper-parameters that check themselves when they are made, a file per family.
//
// Letters used everywhere: N batch, C input channels, H x W input map, K output channels, R x S window, P x Q output map, G groups.
// Constructors and methods live in parameters/*.cpp, compiled once for the plainest processor: nothing there may have an inline body, since
// the linker could keep a copy made with AVX-512 for everybody. Kernels read the fields.
#pragma once
#include "parameters/arrangement.h"
#include "parameters/convolution.h"
#include "parameters/data.h"
#include "parameters/elementwise.h"
#include "parameters/loss.h"
#include "parameters/noise.h"
#include "parameters/normalization.h"
#include "parameters/optim.h"
#include "parameters/pooling.h"
#include "parameters/resampling.h"
#include "parameters/rows.h"
