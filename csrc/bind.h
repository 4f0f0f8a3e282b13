// What the files that use pybind11 share: bind.cpp (one function per row), bind_parameters.cpp, bind_array.cpp, bind_device.cpp.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "array.h"
#include "thunk.h"

namespace py = pybind11;

void bind_parameters(py::module_&);
void bind_array(py::module_&);
void bind_device(py::module_&);
void bind_replay(py::module_&);

// --- how shapes and pairs cross

namespace pybind11::detail {

template <>
struct type_caster<fastnn::Shape> {
  PYBIND11_TYPE_CASTER(fastnn::Shape, const_name("tuple[int, ...]"));
  bool load(handle source, bool) {
    if (!PySequence_Check(source.ptr()) || PyUnicode_Check(source.ptr())) return false;
    const auto items = reinterpret_borrow<sequence>(source);
    if (items.size() > fastnn::max_rank)
      throw std::invalid_argument("rank " + std::to_string(items.size()) + " exceeds " + std::to_string(fastnn::max_rank));
    value.rank = int(items.size());
    for (int i = 0; i < value.rank; i++) {
      object item = items[size_t(i)];
      if (!PyIndex_Check(item.ptr())) return false;
      value.d[i] = PyNumber_AsSsize_t(item.ptr(), PyExc_OverflowError);
      if (value.d[i] == -1 && PyErr_Occurred()) throw error_already_set();
    }
    return true;
  }
  static handle cast(const fastnn::Shape& shape, return_value_policy, handle) {
    tuple t(shape.rank);
    for (int i = 0; i < shape.rank; i++) t[size_t(i)] = int_(shape.d[i]);
    return t.release();
  }
};

template <>
struct type_caster<fastnn::Pair> {
  PYBIND11_TYPE_CASTER(fastnn::Pair, const_name("tuple[int, int]"));
  bool load(handle source, bool convert) {
    type_caster<fastnn::Shape> two;
    if (!two.load(source, convert)) return false;
    const fastnn::Shape s = static_cast<fastnn::Shape&>(two);
    value = {s.d[0], s.d[1]};
    return s.rank == 2;
  }
};

// One of the names of an enumeration, in the order of its values
template <class E, size_t n>
E named(const char* what, const std::string& name, const char* const (&names)[n]) {
  std::string all;
  for (size_t i = 0; i < n; i++) {
    if (name == names[i]) return E(i);
    all += std::string(i ? ", " : "") + names[i];
  }
  throw std::invalid_argument(std::string(what) + " '" + name + "' is not one of " + all);
}

template <>
struct type_caster<fastnn::Activation> {
  PYBIND11_TYPE_CASTER(fastnn::Activation, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"none", "relu", "silu", "gelu"};
    return value = named<fastnn::Activation>("activation", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Function> {
  PYBIND11_TYPE_CASTER(fastnn::Function, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"sigmoid", "tanh", "scaled_relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "softplus", "abs", "clip"};
    return value = named<fastnn::Function>("function", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Comparison> {
  PYBIND11_TYPE_CASTER(fastnn::Comparison, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"};
    return value = named<fastnn::Comparison>("comparison", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Reduction> {
  PYBIND11_TYPE_CASTER(fastnn::Reduction, const_name("str"));
  bool load(handle source, bool) {
    const std::string name = py::cast<std::string>(source);
    const char* names[] = {"none", "mean", "sum"};
    for (int i = 0; i < 3; i++)
      if (name == names[i]) return value = fastnn::Reduction(i), true;
    throw std::invalid_argument("reduction '" + name + "' is not one of none, mean, sum");
  }
};

}  // namespace pybind11::detail
