// What the files that use pybind11 share: bind.cpp (one function per row), bind_parameters.cpp, bind_array.cpp, bind_device.cpp, ...
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "array.h"
#include "made.h"
#include "thunk.h"
#include "unlocked.h"

namespace py = pybind11;

void bind_parameters(py::module_&);
void bind_array(py::module_&);
void bind_exchange(py::module_&, py::class_<fastnn::Array>&);
inline py::dtype numpy_dtype(fastnn::Dtype dtype) { return py::dtype(std::string(fastnn::name(dtype))); }
fastnn::Array on(const fastnn::Array&, fastnn::Device&);  // a copy there; a part of the step that is recorded
void bind_device(py::module_&);
void bind_replay(py::module_&);
void bind_tape(py::module_&), bind_explained(py::module_&);
void bind_elementwise(py::module_&);

// --- what is called for each eager operation goes around pybind11's look-ups

py::detail::type_info* array_type();  // Array's in Python

// The C++ object in a Python object of that type; null where it is of another.
inline void* held(py::detail::type_info* type, PyObject* object) {
  if (Py_TYPE(object) == type->type) return reinterpret_cast<py::detail::instance*>(object)->simple_value_holder[0];
  py::detail::type_caster_generic caster(type);
  return caster.load(object, false) ? caster.value : nullptr;
}

inline PyMethodDef c_function(const char* name, PyObject* (*f)(PyObject* self, PyObject* const* args, Py_ssize_t count), const char* doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f)), METH_FASTCALL, doc};
}

// A result for Python, or null with the exception set.
template <class F>
PyObject* guarded(const F& f) {
  try {
    return or_wait_for_the_end(f).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

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

}  // namespace pybind11::detail
