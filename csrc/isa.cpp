#include "isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace fastnn {

// clang-format off
namespace portable_f32 { extern const Table table; }
namespace portable_f64 { extern const Table table; }
namespace avx2_f32 { extern const Table table; }
namespace avx512_f32 { extern const Table table; }
namespace avx512bf16_f32 { extern const Table table; }
namespace avx512bf16_bf16 { extern const Table table; }
namespace amx_f32 { extern const Table table; }
namespace amx_bf16 { extern const Table table; }
// clang-format on

namespace isa {
namespace {

struct Isa {
  const char* name;
  const Table* float32;
  const Table* bfloat16;  // null where bfloat16 would be slower than float32
  bool (*supported)();
};

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

#if defined(FASTNN_TILES_ON_CPU)
constexpr bool tiles_are_computed = true;
bool has_amx() { return has_avx512bf16(); }
std::string why_not_amx() { return ""; }
#else
constexpr bool tiles_are_computed = false;
// Empty where they are allowed. Linux gives a process the tile registers when it asks; threads it starts later have them too.
const std::string& why_no_tiles() {
  static const std::string reason = [] {
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if (syscall(SYS_arch_prctl, request_permission, tile_data) == 0) return std::string();
    return std::string("the kernel refused the registers of amx (") + std::strerror(errno) + ")";
  }();
  return reason;
}
bool processor_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  return has_avx512bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_bf16) && (d & amx_tile);
}
bool has_amx() { return processor_has_amx() && why_no_tiles().empty(); }
std::string why_not_amx() { return processor_has_amx() ? why_no_tiles() : ""; }
#endif

// Plainest first; a set has the tables of the one before it where it brings none of its own.
const Isa known[] = {
    {"portable", &portable_f32::table, nullptr, [] { return true; }},
    {"avx2", &avx2_f32::table, nullptr, [] { return bool(__builtin_cpu_supports("avx2")) && bool(__builtin_cpu_supports("fma")); }},
    {"avx512", &avx512_f32::table, nullptr, has_avx512},
    {"avx512bf16", &avx512bf16_f32::table, &avx512bf16_bf16::table, has_avx512bf16},
    {"amx", &amx_f32::table, &amx_bf16::table, has_amx},
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
  if (const char* wanted = std::getenv("FASTNN_ISA"); wanted && *wanted) return forced(wanted, "FASTNN_ISA");
  const Isa* best = &known[0];
  for (const Isa& isa : known)
    if (isa.supported() && !(tiles_are_computed && isa.float32 == &amx_f32::table)) best = &isa;
  const std::string reason = "the widest this processor supports of " + names(false);
  return {best, why_not_amx().empty() ? reason : reason + "; " + why_not_amx()};
}

const Table* table_of(const Isa& isa, Dtype storage) {
  return storage == Dtype::float32 ? isa.float32 : storage == Dtype::bfloat16 ? isa.bfloat16 : nullptr;
}

Choice& choice() {
  static Choice c = choose();
  return c;
}

}  // namespace

const Table* table(Dtype storage) {
  if (storage == Dtype::float64) return &portable_f64::table;
  return table_of(*choice().isa, storage);
}

std::string name() { return choice().isa->name; }
std::string reason() { return choice().reason; }

std::vector<std::string> all() {
  std::vector<std::string> list;
  for (const Isa& isa : known)
    if (isa.supported()) list.push_back(isa.name);
  return list;
}

std::vector<std::string> with_table(Dtype storage) {
  std::vector<std::string> list;
  const Table* before = nullptr;
  for (const Isa& isa : known) {
    const Table* own = table_of(isa, storage);
    if (isa.supported() && own && own != before) list.push_back(isa.name);
    before = own;
  }
  return list;
}

void set(const std::string& wanted) { choice() = forced(wanted, "set_isa"); }

}  // namespace isa
}  // namespace fastnn
