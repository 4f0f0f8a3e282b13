// Recordings and replays of steps for Python.
#include "bind.h"
#include "found.h"
#include "replay.h"

using namespace fastnn;

void bind_replay(py::module_& m) {
  using py::arg;
  using unlocked = py::call_guard<Unlocked>;
  py::register_exception<CaptureRefused>(m, "CaptureError", PyExc_RuntimeError);
  py::class_<Recording, std::shared_ptr<Recording>>(m, "Recording", "A step as a list, written down while it runs.")
      .def(made<const std::vector<Array>&, bool>(), arg("arguments"), arg("keeps_packed") = false)
      .def("start", &Recording::start)
      .def("stop", &Recording::stop)
      .def(
          "look",
          [](Recording& r, const Array& a, bool unless_finite) { return r.look({a}, unless_finite ? Look::not_finite : Look::always); },
          arg("array"), arg("unless_finite") = false)
      .def(
          "look_after_exceptions", [](Recording& r, const std::vector<Array>& a) { return r.look(a, Look::exceptions); }, arg("arrays"))
      .def("difference", &Recording::difference, arg("first"), "The first entry that differs, in words; empty when there is none.")
      .def_property_readonly("settings",
                             [](const Recording& r) {
                               const Environment& e = r.environment;
                               return py::make_tuple(reinterpret_cast<uintptr_t>(e.table), e.workers, int(e.precision), e.winograd);
                             })
      .def_property_readonly("names", &Recording::names);
  py::class_<ReplayMemory, std::shared_ptr<ReplayMemory>>(m, "ReplayMemory", "What replays of one step share.")
      .def(made<bool>(), arg("lasting") = true);
  py::class_<Replay>(m, "Replay", "A recorded step, ready to run again.")
      .def(made<std::shared_ptr<Recording>, const std::vector<Array>&, const std::vector<Array>&, std::shared_ptr<ReplayMemory>>(),
           arg("recording"), arg("results"), arg("kept"), arg("memory"))
      .def(
          "begin",
          [](Replay& r, const std::vector<Array>& arguments) -> py::object {
            bool fits = false;
            {
              const Unlocked apart;
              fits = r.begin(arguments);
            }
            if (!fits) return py::none();
            py::list results;
            for (const Array& array : r.results()) results.append(tape::new_tensor(py::cast(array), py::none()));
            return std::move(results);
          },
          arg("arguments"), "The results, Tensors that run() writes; None where the arguments do not fit.")
      .def("run", &Replay::run, unlocked())
      .def("drop", &Replay::drop, "Lets go of what a run holds that was begun and will not go on.")
      .def("looked", &Replay::looked, arg("look"))
      .def("kept", &Replay::kept)
      .def("written", &Replay::written)
      .def("names", [](const Replay& r) { return r.recording().names(); })
      .def_property_readonly("binding", &Replay::binding)
      .def_property_readonly("arena", &Replay::arena)
      .def_property_readonly("packed", &Replay::packed)
      .def_property_readonly("graphs", &Replay::graphs)
      .def_property_readonly("least", &Replay::least);
  py::class_<Found>(m, "Found", "What a step has found in Python's objects, which somebody else keeps.")
      .def(made<const py::list&, const py::list&, const py::list&>(), arg("owners"), arg("tensors"), arg("leaves"))
      .def("still", &Found::still, "Whether it is all there, the same objects.");
  m.def("instrumented", &instrumented, "Whether the memory checks or the finite checks are on.");
  m.def(
      "check_labels",
      [](const std::string& what, const Array& labels, const Shape& shape, int64_t classes, std::optional<int64_t> ignored) {
        refuse_imagined(labels);
        if (labels.dtype != Dtype::int64) throw TypeMismatch(what + ": labels must be int64, got " + name(labels.dtype));
        const LabelCheck check{what, shape, classes, ignored};
        if (!labels.device().is_cpu()) refuse_while_recording("labels on a GPU are looked at by the host; leave them on the CPU");
        if (Recording* r = recording()) r->check(check, labels);
        check(labels);
      },
      arg("what"), arg("labels"), arg("shape"), arg("classes"), arg("ignored"),
      "ValueError naming the first label outside of [0, classes).");
  m.def(
      "place_all",
      [](const std::vector<std::tuple<size_t, int, int>>& tenants, size_t alignment) {
        std::vector<Tenant> all;
        for (const auto& [bytes, first, last] : tenants) all.push_back({bytes, first, last});
        const size_t total = place_all(all, alignment);
        std::vector<size_t> offsets;
        for (const Tenant& t : all) offsets.push_back(t.offset);
        return py::make_tuple(total, offsets);
      },
      arg("tenants"), arg("alignment"), "(bytes in all, offset of each) for (bytes, first, last).");
}
