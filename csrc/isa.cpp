#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace fastnn {

// clang-format off
namespace portable_f32 { extern const Table table; }
namespace portable_f64 { extern const Table table; }
namespace avx2_f32 { extern const Table table; }
namespace avx512_f32 { extern const Table table; }
// clang-format on

namespace isa {
namespace {

struct Isa {
  const char* name;
  const Table& float32;
  bool (*supported)();
};

// Plainest first. Sets yet to come (avx512bf16, amx) start as copies of the one above and replace single kernels.
const Isa known[] = {
    {"portable", portable_f32::table, [] { return true; }},
    {"avx2", avx2_f32::table, [] { return bool(__builtin_cpu_supports("avx2")) && bool(__builtin_cpu_supports("fma")); }},
    {"avx512", avx512_f32::table,
     [] {
       return bool(__builtin_cpu_supports("avx512f")) && bool(__builtin_cpu_supports("avx512bw")) &&
              bool(__builtin_cpu_supports("avx512dq")) && bool(__builtin_cpu_supports("avx512vl"));
     }},
};

struct Choice {
  const Isa* isa;
  std::string reason;
};

std::string names(bool supported_only) {
  std::string list;
  for (const Isa& isa : known)
    if (!supported_only || isa.supported()) list += (list.empty() ? "" : ", ") + std::string(isa.name);
  return list;
}

Choice forced(const std::string& wanted, const std::string& by) {
  for (const Isa& isa : known)
    if (wanted == isa.name) {
      if (!isa.supported()) throw std::invalid_argument(by + " asks for " + wanted + "; this processor runs " + names(true));
      return {&isa, "forced by " + by};
    }
  throw std::invalid_argument(by + " names '" + wanted + "', which is not one of " + names(false));
}

Choice choose() {
  __builtin_cpu_init();
  if (const char* wanted = std::getenv("FASTNN_ISA")) return forced(wanted, "FASTNN_ISA");
  const Isa* best = &known[0];
  for (const Isa& isa : known)
    if (isa.supported()) best = &isa;
  return {best, "the widest this processor supports of " + names(false)};
}

Choice& choice() {
  static Choice c = choose();
  return c;
}

}  // namespace

const Table* table(Dtype storage) {
  if (storage == Dtype::float64) return &portable_f64::table;
  return storage == Dtype::float32 ? &choice().isa->float32 : nullptr;
}

std::string name() { return choice().isa->name; }
std::string reason() { return choice().reason; }

std::vector<std::string> all() {
  std::vector<std::string> list;
  for (const Isa& isa : known)
    if (isa.supported()) list.push_back(isa.name);
  return list;
}

void set(const std::string& wanted) { choice() = forced(wanted, "set_isa"); }

}  // namespace isa
}  // namespace fastnn
