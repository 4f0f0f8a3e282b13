// A recording made ready to run again without Python: every array that the step makes has a place in one block of memory, planned by when
// it is made and last used. Arguments are read where they lie; where a GPU has a part in it, they are copied to places of their own, and
// the kernels between two looks of the host become a graph.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "recording.h"

namespace fastnn {

// An interval of time and the bytes needed during it, both ends included; `offset` is what place_all finds.
struct Tenant {
  size_t bytes;
  int first, last;
  size_t offset = 0;
};
// Largest first, each in the tightest gap between those that live at the same time (Pisarchyk, Lee 2020). Returns the bytes needed in all.
size_t place_all(std::vector<Tenant>&, size_t alignment);

// The blocks, one per device, that replays of the same step share: one runs at a time.
class ReplayMemory {
 public:
  explicit ReplayMemory(bool lasting = true) : lasting_(lasting) {}  // false: of one run, behind which the arena goes on as before
  void need(Device&, size_t bytes);
  const Array* of(const Device&) const;  // null where nothing is needed
  bool holds(const Array&) const;
  int64_t changes() const { return changes_; }
  // What the run that begins leaves here. That of the run before is overwritten: whoever saved it finds another version.
  void leave(std::vector<std::shared_ptr<Storage>>) noexcept;

 private:
  std::map<const Device*, Array> blocks_;
  std::vector<std::shared_ptr<Storage>> left_;
  int64_t changes_ = 0;
  const bool lasting_;
};

class Replay {
 public:
  // results: what the step returned; kept: what else outlives it (gradients), valid until the next run.
  Replay(std::shared_ptr<Recording>, const std::vector<Array>& results, const std::vector<Array>& kept, std::shared_ptr<ReplayMemory>);
  ~Replay();

  bool fits(const std::vector<Array>& arguments) const;  // shapes, types, devices, switches
  // Keeps or copies them, looks at labels, takes all memory that the run needs; false unless they fit. When it throws, nothing was done.
  bool begin(const std::vector<Array>& arguments);
  void drop() { copies_.clear(), arguments_.clear(); }  // of a run that nobody will end
  int run();                                            // to the next look that the host takes, whose number it returns, or to the end: -1
  std::vector<Array> looked(int look) const;
  const std::vector<Array>& results() const { return copies_; }  // to be had between begin and run, at whose end they are written
  const std::vector<Array>& kept() const { return kept_; }
  std::vector<Array> written() const;  // arrays from outside that are changed in place
  int64_t binding() const { return bound_; }
  size_t arena() const;   // bytes planned, of all devices
  size_t packed() const;  // bytes of the scratch where packed weights stay, beside the arena
  size_t graphs() const { return graphs_.size(); }
  size_t least() const { return least_; }  // the most that is alive at once
  const Recording& recording() const { return *recording_; }

 private:
  struct Packed {  // the scratch of an entry whose packed weights stay, and the version of these that lies there
    Array scratch;
    std::shared_ptr<Storage> weights;
    int64_t version = -1;
  };
  struct Step {
    Recording::Kind kind;
    void (*run)(const Context&, const void* parameters, void* const* operands);
    const void* parameters;
    void* const* operands;
    size_t device;  // its place in devices_
    size_t bytes;   // of a copy
    Packed* packed;
  };
  struct Lists {  // pointers and lengths behind list operands
    std::vector<void*> data;
    List<void> list;
  };
  struct Leaving {
    int block;
    Shape shape;
    Dtype dtype;
  };

  void plan();
  void bind();
  void keep_packed(size_t entry);
  void run_kernel(const Step&, Context&);
  void* address(int block) const;
  void point(void*& operand, int block);
  std::vector<Array> apart(std::vector<Array>) const;
  Array array(const Leaving&) const;
  void run_part(size_t begin, size_t end);
  int run_to_look();
  bool wanted(const Recording::Entry& look) const;
  bool launch(size_t begin, size_t end);
  bool make_graph(Device&, size_t begin, size_t end, void** graph);
  void count(size_t begin, size_t end);
  void forget_graphs();

  const std::shared_ptr<Recording> recording_;
  const std::shared_ptr<ReplayMemory> memory_;
  std::vector<Leaving> results_, leaving_;
  std::vector<Device*> devices_;
  std::vector<void*> streams_;
  std::map<const Device*, size_t> needed_;
  std::vector<bool> lent_;  // blocks: arguments that are read where they lie
  bool lends_ = false;
  std::vector<size_t> offsets_;          // of each block
  std::vector<size_t> scratch_offsets_;  // of each entry
  std::map<size_t, Packed> packed_;      // by entry
  size_t least_ = 0;
  int64_t bound_ = -1;
  std::vector<void*> pointers_;
  std::deque<Lists> lists_;
  std::vector<std::pair<void**, int>> lent_pointers_;  // to what is lent, and its argument's number
  std::vector<Step> steps_;
  std::vector<size_t> looks_;       // entries
  std::vector<bool> early_;         // copies to a GPU of what the host had before the step: done before all kernels
  std::map<size_t, void*> graphs_;  // by the entry where they begin
  bool graphs_refused_ = false;
  std::vector<Array> kept_;
  std::vector<Array> copies_, arguments_;  // from begin to the end of the run: of the results, and what is lent
  std::vector<Context> contexts_;          // of devices_; a run needs no memory for them
  std::vector<std::shared_ptr<Storage>> written_;
  size_t at_ = 0, runs_ = 0;
  uint64_t exceptions_ = 0;  // when the run began
};

}  // namespace fastnn
