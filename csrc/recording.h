// A training step as a list, written down while its Python runs: kernel calls with copies of their structs and the memory of each operand,
// copies between arrays, counters, looks of the host. Nothing is computed meanwhile, and what the step makes has no bytes (it is imagined),
// so that whatever happens leaves everything as it was, and the memory that is needed is known before the first step. Two recordings are
// compared entry by entry; replay.h runs the list.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "thunk.h"

namespace fastnn {

struct CaptureRefused : std::runtime_error {  // becomes CaptureError
  using std::runtime_error::runtime_error;
};

// Class labels that are looked at before kernels may trust them: each in [0, classes), or `ignored`.
struct LabelCheck {
  std::string what;
  Shape shape;  // as the caller gave them, one or several dimensions
  int64_t classes = 0;
  std::optional<int64_t> ignored;
  void operator()(const Array& labels) const;  // throws std::invalid_argument naming the first that is neither
};

// What chooses kernels and their scratch, apart from shapes.
struct Environment {
  const Table* table;
  int workers;
  Precision precision;
  bool winograd;
  int64_t own_bytes;
  static Environment now();
  bool operator==(const Environment&) const;
};

// When the host looks: each time; at a number that is not finite; when kernels have met exceptions (float_exceptions()) since the step
// began.
enum class Look { always, not_finite, exceptions };

class Recording {
 public:
  enum class Origin { made, argument, constant, outside };
  struct Block {  // the bytes of an array and of its views
    Origin origin;
    int number;  // which argument, which made one
    Device* device;
    size_t bytes;
    bool written;     // in place
    int first, last;  // entries that touch it
    std::weak_ptr<Storage> storage;
    Array array;  // keeps it, unless it was made by the step
  };
  struct Part {  // an operand: one block, several (a list), or none (absent)
    bool list;
    std::vector<int> blocks;
    std::vector<int64_t> sizes;
  };
  enum class Kind { kernel, copy, count, labels, look };
  struct Signature {  // of an argument, or of what is looked at
    Shape shape;
    Dtype dtype;
    Device* device;
    int number = -1;  // an argument's own, or that of a later one which is the same array
  };
  struct Entry {
    Kind kind;
    Row row = row_count;
    const Kernel* kernel = nullptr;
    Device* device = nullptr;
    std::vector<unsigned char> parameters;
    std::vector<Part> operands;  // copy: from, to
    size_t scratch = 0;
    int packed = -1;  // the operand whose packed form the scratch can keep
    LabelCheck labels;
    std::vector<Signature> looked;  // at
    Look when = Look::always;
    const char* algorithm = "";  // for the profiler, as the next two
    int64_t bytes = 0;
    int scope = 0;
  };
  // keeps_packed: what kernels pack of arrays that the step does not write stays packed from one replay to the next.
  explicit Recording(const std::vector<Array>& arguments, bool keeps_packed = false);
  ~Recording();
  void start();  // from now on, this thread reports here; throws CaptureRefused when it reports elsewhere
  void stop();
  void settle();  // lets go of the arguments

  // --- what is reported
  void call(Row, const Kernel&, Device&, const void* parameters, const std::vector<Argument>&, const std::vector<Array>& outputs,
            const Plan&, int64_t bytes);
  void copy(const Array& from, const Array& to);
  void count(const Array&);  // one more in a counter of the CPU
  void check(const LabelCheck&, const Array& labels);
  void constant(const Array&);                // made from the host's data by the library itself, the same in every step
  void empty(const Array&);                   // to be filled by a kernel that takes it as inout
  int look(const std::vector<Array>&, Look);  // the host looks at them here; which look it is

  int block_of(const Array&);
  void use(int block, int entry);
  void use_early(int block) { blocks_[size_t(block)].first = -1; }  // filled before the first entry
  std::string difference(const Recording& first) const;             // empty when both are the same list
  std::vector<std::string> names() const;                           // of the entries
  const std::vector<Block>& blocks() const { return blocks_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const std::vector<Signature>& arguments() const { return arguments_; }
  Context context(Device&) const;         // in which the kernels run
  bool keeps_packed(const Entry&) const;  // whether its weights are there before the step, and are not written by it
  const Environment environment;

 private:
  int made(const Array&);
  void write(int block);
  bool same(int block, const Recording& first, int other) const;
  std::string name(int block) const;

  const bool keeps_packed_;
  std::vector<Signature> arguments_;
  std::vector<Block> blocks_;
  std::vector<Entry> entries_;
  std::unordered_map<const Storage*, int> known_;  // a weak_ptr keeps the address from being used again
  int made_ = 0, looks_ = 0;
};

Recording* recording();                         // this thread's, or null
void refuse_while_recording(const char* what);  // throws CaptureRefused
void increment(const Array& counter);           // int64, on the CPU
Array imagined(const Shape&, Dtype, Device&);
void refuse_imagined(const Array&);       // throws CaptureRefused, but while a step is recorded
void refuse_without_bytes(const Array&);  // then as well: where bytes are read or written at once

}  // namespace fastnn
