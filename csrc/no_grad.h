// Whether operations of this thread are recorded, and what a step that is written down takes from outside.
#pragma once
#include "bind.h"

inline thread_local bool grad_enabled = true;
// Of the step that this thread writes down: a dict for the Tensors made before it that its operations take, by their addresses. Owned;
// leaks with a thread that ends in between.
inline thread_local PyObject* inputs_of_step = nullptr;

// `with NoGrad():`, entered and left within one call each: Ctrl-C comes before or behind, and finds the switch as it should be.
class NoGrad {
 public:
  void enter() { before_.push_back(grad_enabled), grad_enabled = false; }
  void exit(const py::args&) {
    if (before_.empty()) throw std::runtime_error("no_grad: left more often than entered");
    grad_enabled = before_.back(), before_.pop_back();
  }

 private:
  std::vector<bool> before_;
};

inline void bind_no_grad(py::module_& m) {
  py::class_<NoGrad>(m, "NoGrad", "Inside the block (of this thread) no operation is recorded.")
      .def(fastnn::made<>())
      .def("__enter__", &NoGrad::enter)
      .def("__exit__", &NoGrad::exit);
  m.def(
      "note_inputs",
      [](const py::object& into) {
        Py_XSETREF(inputs_of_step, into.is_none() ? nullptr : py::reinterpret_borrow<py::dict>(into).release().ptr());
      },
      py::arg("into"),
      "A dict that takes, by their addresses, the Tensors that operations of this thread take and none has made; None: no longer.");
  m.def("is_grad_enabled", [] { return grad_enabled; }, "Whether operations of this thread are recorded.");
}
