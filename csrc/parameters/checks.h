// How structs of parameters refuse what cannot be, with the arithmetic spelled out. For parameters/*.cpp alone.
#pragma once
#include <cmath>
#include <stdexcept>
#include <string>

#include "../array.h"

namespace fastnn {

template <class... Parts>
[[noreturn]] void refuse(Parts&&... parts) {
  std::string message;
  ((message +=
    [](auto&& part) {
      using P = std::decay_t<decltype(part)>;
      if constexpr (std::is_same_v<P, Shape>) {
        return text(part);
      } else if constexpr (std::is_arithmetic_v<P>) {
        return std::is_integral_v<P> ? std::to_string(int64_t(part)) : std::to_string(double(part));
      } else {
        return std::string(part);
      }
    }(parts)),
   ...);
  throw std::invalid_argument(message);
}

template <class... Sizes>
Shape shape_of(Sizes... sizes) {
  return {int(sizeof...(sizes)), {int64_t(sizes)...}};
}

inline void expect_rank(const char* what, const Shape& x, int rank, const char* letters) {
  if (x.rank != rank) refuse(what, " expects an input of shape ", letters, ", got ", x);
}

inline int64_t windows(const char* what, const char* axis, int64_t size, int64_t before, int64_t after, int64_t reach, int64_t stride) {
  const int64_t padded = size + before + after;
  if (padded < reach)
    refuse(what, ": a window of ", axis, " ", reach, " does not fit into ", size, " + ", before, " + ", after, " padding = ", padded,
           "; pad more or use a smaller window");
  return (padded - reach) / stride + 1;
}

inline void expect_positive(const char* what, const char* name, Pair p) {
  if (p.h < 1 || p.w < 1) refuse(what, ": ", name, " must be at least 1, got (", p.h, ", ", p.w, ")");
  if ((p.h | p.w) >> 31) refuse(what, ": ", name, " must be less than 2**31, got (", p.h, ", ", p.w, ")");
}

inline void expect_not_negative(const char* what, const char* name, Pair p) {
  if (p.h < 0 || p.w < 0) refuse(what, ": ", name, " must not be negative, got (", p.h, ", ", p.w, ")");
  if ((p.h | p.w) >> 31) refuse(what, ": ", name, " must be less than 2**31, got (", p.h, ", ", p.w, ")");
}

}  // namespace fastnn
