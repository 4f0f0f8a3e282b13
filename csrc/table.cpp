// Fills the table of one instruction set and storage type. A row without its kernel stops at link time.
#include "table.h"

#include "prototypes.h"

#define NAME(x) NAME_OF(x)
#define NAME_OF(x) #x

namespace fastnn::FASTNN_TABLE {
namespace {

// The position of each operand, then the call with every pointer cast to its type.
#define IN(name, shape, type) name,
#define OUT IN
#define INOUT IN
#define MAYBE_IN IN
#define MAYBE_INOUT IN
#define LIST_IN IN
#define LIST_INOUT IN
#define KERNEL(name, Struct, operands)        \
  namespace at_##name {                       \
    enum : int { operands scratch_position }; \
  }
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"

#define IN(name, shape, type) , static_cast<const type*>(pointers[name])
#define OUT(name, shape, type) , static_cast<type*>(pointers[name])
#define INOUT OUT
#define MAYBE_IN IN
#define MAYBE_INOUT OUT
#define LIST_IN(name, sizes, type) , *static_cast<const List<const type>*>(pointers[name])
#define LIST_INOUT(name, sizes, type) , *static_cast<const List<type>*>(pointers[name])
#define KERNEL(name, Struct, operands)                                                     \
  void run_##name(const Context& context, const void* parameters, void* const* pointers) { \
    using namespace at_##name;                                                             \
    FASTNN_TABLE::name(context, *static_cast<const Struct*>(parameters) operands);         \
  }
#define PLANNED(name, Struct, operands)                                                                        \
  void run_##name(const Context& context, const void* parameters, void* const* pointers) {                     \
    using namespace at_##name;                                                                                 \
    FASTNN_TABLE::name(context, *static_cast<const Struct*>(parameters) operands, pointers[scratch_position]); \
  }                                                                                                            \
  Plan plan_##name(const Context& context, const void* parameters) { return name##_plan(context, *static_cast<const Struct*>(parameters)); }
#include "kernels.def"
#include "undef_kernels.h"

}  // namespace

extern const Table table;
const Table table = {NAME(FASTNN_TABLE),
                     {
#define KERNEL(name, Struct, operands) {run_##name, nullptr},
#define PLANNED(name, Struct, operands) {run_##name, plan_##name},
#include "kernels.def"
#include "undef_kernels.h"
                     }};

}  // namespace fastnn::FASTNN_TABLE
