// Objects that pybind11 has to remember, where there may be no memory for that.
#pragma once
#include <pybind11/pybind11.h>

#include <memory>

#include "array.h"

pybind11::object wrapped(fastnn::Array&&);

// --- constructors. py::init has an object remembered behind the block that turns exceptions into Python's (pybind11.h, the end of
// cpp_function::dispatcher): no memory there ends the process. made() has it done inside, and when it fails nothing is left.

namespace fastnn {

struct Made {};  // tells the templates below from pybind11's own

// In place of py::init<Arguments...>().
template <class... Arguments>
auto made() {
  return pybind11::init<Made, Arguments...>();
}

// In place of py::init(function), which returns the object.
template <class Function>
auto made(Function function) {
  using pybind11::detail::function_signature_t;
  return pybind11::detail::initimpl::factory<Function, Made, function_signature_t<Function>, void>{function};
}

// `object` becomes that of `self`. With a holder there already, all that can fail is to remember it, which comes first.
template <class Class>
void hold(pybind11::detail::value_and_holder& self, std::unique_ptr<typename Class::type> object) {
  typename Class::holder_type holder(std::move(object));
  self.value_ptr() = holder.get();
  try {
    self.type->init_instance(self.inst, &holder);
  } catch (...) {
    self.value_ptr() = nullptr;  // it goes with `holder`
    throw;
  }
}

}  // namespace fastnn

namespace pybind11::detail::initimpl {

template <class... Arguments>
struct constructor<fastnn::Made, Arguments...> {
  template <class Class, class... Extra>
  static void execute(Class& type, const Extra&... extra) {
    auto init = [](value_and_holder& self, Arguments... arguments) {
      fastnn::hold<Class>(self, std::unique_ptr<Cpp<Class>>(construct_or_initialize<Cpp<Class>>(std::forward<Arguments>(arguments)...)));
    };
    type.def("__init__", init, is_new_style_constructor(), extra...);
  }
};

template <class Function, class Result, class... Arguments>
struct factory<Function, fastnn::Made, Result(Arguments...), void> {
  Function function;

  template <class Class, class... Extra>
  void execute(Class& type, const Extra&... extra) && {
    auto init = [function = function](value_and_holder& self, Arguments... arguments) {
      fastnn::hold<Class>(self, std::make_unique<Cpp<Class>>(function(std::forward<Arguments>(arguments)...)));
    };
    type.def("__init__", init, is_new_style_constructor(), extra...);
  }
};

}  // namespace pybind11::detail::initimpl

// --- arrays

namespace pybind11::detail {

// pybind11 would own a copy before it remembers it, and let go of its memory alone when that fails.
template <>
struct type_caster<fastnn::Array> : type_caster_base<fastnn::Array> {
  using policies = return_value_policy;
  using type_caster_base<fastnn::Array>::cast;
  static handle cast(fastnn::Array&& array, policies, handle) { return wrapped(std::move(array)).release(); }
  static handle cast(const fastnn::Array& array, policies policy, handle parent) {
    const bool copied = policy == policies::copy || policy == policies::automatic || policy == policies::automatic_reference;
    return copied ? wrapped(fastnn::Array(array)).release() : cast(&array, policy, parent);
  }
};

}  // namespace pybind11::detail
