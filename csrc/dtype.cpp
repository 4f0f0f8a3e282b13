#include "dtype.h"

#include <stdexcept>

namespace fastnn {

const char* name(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32: return "float32";
    case Dtype::float64: return "float64";
    case Dtype::uint8: return "uint8";
    case Dtype::int64: return "int64";
    case Dtype::boolean: return "bool";
    case Dtype::bfloat16: return "bfloat16";
  }
  return "?";
}

size_t item_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32: return 4;
    case Dtype::float64:
    case Dtype::int64: return 8;
    case Dtype::uint8:
    case Dtype::boolean: return 1;
    case Dtype::bfloat16: return 2;
  }
  return 0;
}

Dtype dtype_named(const std::string& wanted) {
  for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::uint8, Dtype::int64, Dtype::boolean, Dtype::bfloat16})
    if (wanted == name(dtype)) return dtype;
  throw std::invalid_argument("dtype '" + wanted + "' is not one of float32, float64, uint8, int64, bool, bfloat16");
}

}  // namespace fastnn
