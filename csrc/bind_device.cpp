// Devices, instruction sets, threads, statistics and switches for Python.
#include "bind.h"
#include "isa.h"
#include "peak.h"
#include "profiler.h"
#include "processors.h"
#include "threads.h"

using namespace fastnn;

namespace {

constexpr const char* precision_names[] = {"highest", "high", "medium"};

Device& with_backend(const std::string& name) {
  Device& device = device_named(name);
  if (device.is_cpu()) throw std::invalid_argument("the CPU has no streams and events: its calls are done when they return");
  return device;
}

struct Stream {
  Device& device;
  void* handle;
  explicit Stream(const std::string& name) : device(with_backend(name)), handle(device.take_stream()) {}
  Stream(const Stream&) = delete;
  ~Stream() {
    device.backend->synchronize(handle);
    device.give_back_stream(handle);
  }
};

struct Event {
  Device& device;
  void* handle = nullptr;
  explicit Event(const std::string& name) : device(with_backend(name)) {
    device.select();
    device.check(device.backend->create_event(&handle));
  }
  Event(const Event&) = delete;
  ~Event() { device.backend->destroy_event(handle); }
};

template <class F>
auto unlocked(const F& f) {
  const Unlocked meanwhile;
  return f();
}

void bind_row_list(py::module_& m) {
  m.def(
      "rows",
      [] {
        py::list all;
        for (int row = 0; row < row_count; row++) {
          const RowInfo& info = row_info(Row(row));
          py::list operands;
          for (const Operand& o : info.operands) {
            py::dict d;
            d["name"] = o.name, d["direction"] = name(o.direction), d["type"] = name(o.type), d["optional"] = o.optional,
            d["list"] = o.list;
            operands.append(d);
          }
          py::dict d;
          d["name"] = info.name, d["struct"] = info.parameters, d["operands"] = operands, d["planned"] = info.planned;
          all.append(d);
        }
        return all;
      },
      "Every kernel with its operands, as declared in kernels.def.");
}

void bind_switches(py::module_& m) {
  m.def("set_num_threads", [](int n) { threads::set_count(n); });
  m.def("get_num_threads", &threads::count);
  m.def("count_float_exception", &count_float_exception, "As if a kernel had met one.");
  m.def("float_exceptions", &float_exceptions,
        "How often, in any thread, a kernel overflowed, divided by 0 or had no result (inf - inf), by the processor's flags.");
  m.def("threads_reason", &threads::reason);
  m.def("thread_limits", [] {
    const Limits limits = thread_limits();
    return py::make_tuple(limits.cpus, limits.cores, limits.quota);
  });
  m.def(
      "processors",
      [](const std::string& root) {
        const Limits limits = thread_limits(root);
        return py::make_tuple(limits.least(), limits.text());
      },
      py::arg("root") = "", "(how many this process may use, why); root: of another /proc and /sys.");
  m.def("isa", &isa::name);
  m.def("isa_reason", &isa::reason);
  m.def("isas", &isa::all);
  m.def("isas", [](const std::string& dtype) { return isa::with_table(dtype_named(dtype)); }, py::arg("dtype"));
  m.def("set_isa", &isa::set);
  m.def("set_memory_checks", &set_memory_checks);
  m.def("set_finite_checks", &set_finite_checks);
  m.def("set_profiling", &profiler::set);
  m.def("set_scope", &profiler::set_scope, "A number that the profiler notes with this thread's calls.");
  m.def("profile", [] {
    py::list all;
    for (const Cost& cost : profiler::costs()) {
      py::dict d;
      d["row"] = row_info(cost.row).name, d["scope"] = cost.scope, d["algorithm"] = cost.algorithm, d["calls"] = cost.calls;
      d["seconds"] = 1e-9 * double(cost.nanoseconds), d["least"] = 1e-9 * double(cost.least);
      d["operations"] = cost.operations, d["bytes"] = cost.bytes;  // of one call
      all.append(d);
    }
    return all;
  });
  m.def("measure_peak", [] {
    const Peak peak = unlocked(measure_peak);
    return py::make_tuple(peak.gflops, peak.copy_gbs);
  });
  m.def("last_call", [] {
    const LastCall last = last_call();
    py::dict d;
    d["row"] = last.row, d["device"] = last.device, d["table"] = last.table, d["algorithm"] = last.algorithm,
    d["workers"] = __builtin_popcountll(last.workers), d["past_caches"] = last.past_caches;
    return d;
  });
  m.def(
      "memory_stats",
      [](const std::string& device) {
        const MemoryStats s = device_named(device).arena.stats();
        py::dict d;
        d["allocated"] = s.allocated, d["peak"] = s.peak, d["reserved"] = s.reserved, d["allocations"] = s.allocations,
        d["reused"] = s.reused;
        return d;
      },
      py::arg("device") = "cpu");
  m.def("reset_peak_memory", [](const std::string& device) { device_named(device).arena.reset_peak(); }, py::arg("device") = "cpu");
  m.def("empty_cache", [](const std::string& device) { device_named(device).arena.empty_cache(); }, py::arg("device") = "cpu");
  m.def("fail_allocation", &Arena::fail_allocation, py::arg("k"),
        "For tests: the k-th allocation from now on finds no memory (0: none). Returns how many calls an earlier one still waits for.");
}

// --- devices of backends

void bind_backends(py::module_& m) {
  m.def(
      "open_backend", [](const std::string& path) { return unlocked([&] { return open_backend(path); }); },
      "Opens a shared object with kernels for other devices and returns their names.");
  m.def("describe_device", [](const std::string& name) {
    const Device& device = device_named(name);
    char text[256] = "";
    if (device.backend) device.check(device.backend->describe(device.index, text, sizeof text));
    return std::string(text);
  });
  m.def("device_memory", [](const std::string& name) {
    const Device& device = device_named(name);
    int64_t free = 0, total = 0;
    if (device.backend) device.check(device.backend->memory(device.index, &free, &total));
    return py::make_tuple(free, total);
  });
  m.def("synchronize", [](const std::string& device) { unlocked([&] { device_named(device).synchronize(); }); });
  m.def("set_precision", [](const std::string& wanted) {
    for (int i = 0; i < 3; i++)
      if (wanted == precision_names[i]) return set_precision(Precision(i));
    throw std::invalid_argument("precision '" + wanted + "' is not one of highest, high, medium");
  });
  m.def("get_precision", [] { return precision_names[int(precision())]; });
  m.def("set_winograd", &set_winograd, py::arg("on"), "Whether convolutions on the CPU may use Winograd's algorithm (on by default).");
  m.def("get_winograd", &winograd);
  m.def("set_past_caches_from", &set_past_caches_from, py::arg("bytes"),
        "Results of at least so many bytes are written past the CPU's caches by what only moves memory; the bits are the same.");
  m.def("get_past_caches_from", &past_caches_from);
  py::class_<Stream>(m, "Stream")
      .def(made<const std::string&>(), py::arg("device") = "cuda")
      .def("synchronize", [](const Stream& s) { unlocked([&] { s.device.check(s.device.backend->synchronize(s.handle)); }); })
      .def("wait", [](const Stream& s, const Event& e) { s.device.check(s.device.backend->wait(s.handle, e.handle)); })
      .def("use", [](const Stream& s) { s.device.set_stream(s.handle); })
      .def_property_readonly("device", [](const Stream& s) { return s.device.name; })
      .def_property_readonly("handle", [](const Stream& s) { return reinterpret_cast<uintptr_t>(s.handle); });
  m.def("current_stream", [](const std::string& device) { return reinterpret_cast<uintptr_t>(device_named(device).stream()); });
  m.def("use_own_stream", [](const std::string& device) { device_named(device).set_stream(nullptr); });
  py::class_<Event>(m, "Event")
      .def(made<const std::string&>(), py::arg("device") = "cuda")
      .def("record", [](const Event& e) { e.device.check(e.device.backend->record(e.handle, e.device.stream())); })
      .def("synchronize", [](const Event& e) { unlocked([&] { e.device.check(e.device.backend->synchronize_event(e.handle)); }); })
      .def(
          "elapsed_time",
          [](const Event& first, const Event& second) {
            float milliseconds = 0;
            first.device.check(first.device.backend->elapsed(first.handle, second.handle, &milliseconds));
            return milliseconds;
          },
          "Milliseconds from this event to a later one; both must have happened.");
}

}  // namespace

void bind_device(py::module_& m) {
  bind_row_list(m);
  bind_switches(m);
  bind_backends(m);
}
