// The state of a run in the memory of its ranks, so that a lost rank costs at most one step.
//
// After each step a rank keeps a copy of the parts it updates (parameters and optimizer states), of this step and of
// the one before, and hands a copy to a peer. When ranks are lost, those that remain and those that replace them look
// together for the newest step of which all parts are still there, and every rank gets what its layout needs, which may
// be another one than before.
//
// Why two steps: ranks may stand one step apart when one is lost. Before a rank's update of step s its copy of step
// s - 1 has arrived, and the update waits for all ranks; so whoever has finished step s knows that s - 1 is safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "comm/communicator.h"
#include "tensor/buffer.h"
#include "train/train_state.h"

namespace colossus {

// What else a run is at a step, the same on all ranks. Bytes that travel as they are.
struct RunPosition {
  int64_t step = 0;
  int64_t skipped_in_a_row = 0;
  double best_validation_loss = 0;
  double training_seconds = 0;
  int64_t evaluation_in_metrics = -1;
  double loss = 0, aux_loss = 0, grad_norm = 0, learning_rate = 0, seconds = 0;
  int64_t num_tokens = 0;
  int64_t skipped = 0;
};
static_assert(std::is_trivially_copyable_v<RunPosition>);

class StateKeeper {
 public:
  StateKeeper() = default;
  ~StateKeeper() { static_cast<void>(finish_copies()); }
  StateKeeper(const StateKeeper&) = delete;
  StateKeeper& operator=(const StateKeeper&) = delete;

  // From now on keep() gets these parts, of this layout. Copies go to rank + distance of `peers` and come from rank -
  // distance; null: nowhere, for others have the same parts. All ranks call it. What was kept before stays until it is
  // kept anew by all.
  Status begin(std::unique_ptr<Communicator> peers, int distance, const std::vector<StatePart>& parts);

  // Copies the parts and begins to hand them on, on another thread.
  Status keep(const RunPosition& position, Device& device, const std::vector<StatePart>& parts);
  // Until the copies that keep() began have gone and come.
  Status finish_copies();
  // Ends them early; any thread.
  void abort(const std::string& reason);

  // All ranks of `world` call it, with what each needs. The newest step of which every part that anybody needs is kept
  // somewhere: its parts, written to their memories, and its position. Nothing when there is none; then no memory was
  // touched.
  Result<std::optional<RunPosition>> restore(Communicator& world, Device& device, const std::vector<StatePart>& needed);

  int64_t num_bytes() const;

 private:
  struct KeptPart {
    std::string name;       // of the tensor, and of the slice where it is cut
    ElementRange elements;  // of that, row by row
    int64_t offset = 0;     // in elements, in the copy
  };
  // One rank's parts at one step; step -1: none yet, or one that did not come whole.
  struct Copy {
    RunPosition position{.step = -1};
    std::vector<KeptPart> parts;
    Buffer bytes;
  };
  // What a rank gets from a holder's copy.
  struct Stretch {
    int64_t copy, from, count;  // index of the copy, first element in it
    size_t part;                // of the parts that are needed
    int64_t to;                 // element of that part
  };
  class StateSearch;

  Status add_copies(const std::vector<KeptPart>& parts, std::vector<std::unique_ptr<Copy>>& copies);
  static Copy& oldest(std::vector<std::unique_ptr<Copy>>& copies);
  void hand_on(Copy& own, Copy& of_peer);
  std::vector<const Copy*> all_copies() const;
  static Result<std::string> answer(const std::vector<const Copy*>& own, size_t rank, const std::string& request);
  static Status fetch(Communicator& world, Device& device, const std::vector<const Copy*>& own,
                      const std::vector<std::vector<Stretch>>& found, const std::vector<StatePart>& needed);
  static Result<RunPosition> position_at(Communicator& world, const std::vector<const Copy*>& own, int64_t step);
  static std::string text_of(const std::vector<KeptPart>& parts);
  static Result<std::vector<KeptPart>> parts_of(const std::string& text);

  std::vector<std::unique_ptr<Copy>> own_, of_peer_;  // two of each, or none
  std::vector<std::unique_ptr<Copy>> before_;         // of the layout before
  int num_kept_ = 0;                                  // since begin()
  std::unique_ptr<Communicator> peers_;
  int to_ = 0, from_ = 0;
  std::thread thread_;
  Status copied_;  // of thread_; read after joining
};

}  // namespace colossus
