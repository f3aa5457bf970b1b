// What the programs of a rank read of a microbatch: its part of the rows.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/loader.h"
#include "device/tensor_set.h"
#include "model/model.h"
#include "parallel/partition.h"
#include "train/ranks.h"

namespace colossus {

class InputFeed {
 public:
  // inputs: how the rank's programs have them. The device outlives the feed.
  InputFeed(Device& device, const ProgramOptions& options, std::span<const TensorPart> inputs, const Ranks& ranks);

  // Memory for the inputs of a program that is not here yet, bound to it. Others may be written by name.
  Status add(Executable& executable);
  InputFeed(const InputFeed&) = delete;
  InputFeed& operator=(const InputFeed&) = delete;

  const TensorSet& tensors() const { return memories_; }
  template <class T>
  void set(const char* name, const T& value) {
    device_.write(*memories_.at(name).memory, 0, bytes_of(value));
  }

  // Reads B rows; num_rows of them count, the targets of the others are none.
  Status read(const Loader& data, int64_t step, int64_t first_row, int64_t num_rows);
  Status read(const Loader& data, int64_t step, int64_t first_row) {
    return read(data, step, first_row, options_.batch);
  }
  // Those that the program of an executable has, to where they are bound.
  void write(const Program& program);

 private:
  // An input of a program: the rows' tensor it is of, and which elements of it; none: all.
  struct Rows {
    const std::vector<int32_t>* whole;
    const std::vector<size_t>* elements;
    std::shared_ptr<DeviceMemory> memory;
  };

  Device& device_;
  const ProgramOptions options_;
  TensorSet memories_;
  std::vector<int32_t> tokens_, targets_, document_start_;  // (B, T), whole
  // By input: which element of the whole each of the rank's is; none for what the rank has whole.
  std::map<std::string, std::vector<size_t>> elements_;
  std::map<const Program*, std::vector<Rows>> rows_of_;
  std::vector<int32_t> part_;
};

// For each element of a rank's part of a (B, T) tensor, in order, the place of it in the whole.
std::vector<size_t> elements_of_part(const TensorPart& part, const MeshPosition& position);

}  // namespace colossus
