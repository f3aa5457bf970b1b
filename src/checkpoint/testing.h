// For tests only: what a run might hold, cut over ranks in many ways.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "comm/testing.h"
#include "io/testing.h"

namespace colossus {

// Hundreds of saves, each synced several times: a file system in memory makes them quick.
inline const bool kInMemory = access("/dev/shm", W_OK) == 0 && setenv("TMPDIR", "/dev/shm", 0) == 0;

// Whole tensors; `generation` tells one content from another.
struct Contents {
  std::map<std::string, std::vector<std::byte>> bytes;  // by file/name
  std::vector<CheckpointTensor> tensors;
  CheckpointState state;

  explicit Contents(int64_t step, int generation = 0, std::optional<double> validation_loss = std::nullopt)
      : state{.step = step,
              .validation_loss = validation_loss,
              .texts = {{"config.toml", fmt::format("generation = {}\n", generation)}, {"tokenizer.json", "{}"}}} {
    add("model", "embedding", DType::kF32, {37, 5}, generation);
    add("model", "layers.0.attn.q", DType::kBF16, {3, 7, 2}, generation);
    add("model", "empty", DType::kF32, {0, 4}, generation);
    add("optimizer", "embedding", DType::kF32, {37, 5}, generation + 1);
    add("optimizer", "count", DType::kI64, {}, generation);
  }
  Contents(const Contents&) = delete;

  void add(const std::string& file, const std::string& name, DType dtype, const Shape& shape, int generation) {
    std::vector<std::byte>& values = bytes[file + "/" + name];
    values.resize(static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype)));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] =
          static_cast<std::byte>(random_bits({.seed = static_cast<uint64_t>(generation), .step = bytes.size()}, i));
    tensors.push_back(
        {file, name, dtype, shape, whole_piece(shape), [&values](int64_t offset, std::span<std::byte> into) {
           if (!into.empty()) std::memcpy(into.data(), values.data() + offset, into.size());
           return ok_status();
         }});
  }

  std::vector<std::byte> bytes_of(const CheckpointTensor& tensor, const Piece& piece) const {
    const std::vector<std::byte>& whole = bytes.at(tensor.file + "/" + tensor.name);
    const int64_t element = dtype_bytes(tensor.dtype);
    std::vector<std::byte> part(static_cast<size_t>(piece.size() * element));
    for_each_common_run(whole_piece(tensor.shape), piece, [&](int64_t from, int64_t to, int64_t count) {
      std::memcpy(part.data() + to * element, whole.data() + from * element, static_cast<size_t>(count * element));
    });
    return part;
  }
};

inline Status save(FileSystem& files, const std::string& directory, const Contents& contents) {
  return save_checkpoint(files, directory, contents.state, contents.tensors);
}

// "" when the checkpoint holds exactly these contents.
inline std::string difference(const Checkpoint& checkpoint, const Contents& contents) {
  if (const Status verified = checkpoint.verify(); !verified.ok()) return verified.message();
  if (checkpoint.state().step != contents.state.step) return "step";
  if (checkpoint.state().texts != contents.state.texts) return "texts";
  if (checkpoint.state().validation_loss != contents.state.validation_loss) return "validation loss";
  if (checkpoint.tensors().size() != contents.tensors.size()) return "number of tensors";
  for (const CheckpointTensor& tensor : contents.tensors) {
    const Checkpoint::Entry* entry = checkpoint.find(tensor.file, tensor.name);
    if (!entry || !(entry->shape == tensor.shape) || entry->dtype != tensor.dtype) return tensor.name;
    std::vector<std::byte> read(static_cast<size_t>(tensor.num_bytes()));
    if (!checkpoint.read(*entry, read).ok() || read != contents.bytes.at(tensor.file + "/" + tensor.name))
      return "bytes of " + tensor.name;
  }
  return "";
}

// How each tensor is cut over `size` ranks.
struct SavedCut {
  enum class Kind { kRows, kColumns, kFlat, kOwned, kFlatOfColumns } kind;
  int size;
};

inline std::string layout_name(const SavedCut& layout) {
  constexpr const char* kNames[] = {"rows", "columns", "flat", "owned", "flat_of_columns"};
  return fmt::format("{}_{}", kNames[static_cast<int>(layout.kind)], layout.size);
}

inline std::vector<SavedCut> all_layouts(std::initializer_list<int> sizes) {
  std::vector<SavedCut> layouts;
  for (const int size : sizes)
    for (const auto kind : {SavedCut::Kind::kRows, SavedCut::Kind::kColumns, SavedCut::Kind::kFlat,
                            SavedCut::Kind::kOwned, SavedCut::Kind::kFlatOfColumns})
      layouts.push_back({kind, size});
  return layouts;
}

inline Slice cut_slice(const Shape& whole, int dimension, int64_t i, int64_t n) {
  Slice slice{.shape = whole};
  const int64_t length = whole[dimension], begin = length * i / n;
  slice.begin[static_cast<size_t>(dimension)] = begin;
  slice.shape = whole.with(dimension, length * (i + 1) / n - begin);
  return slice;
}

// Of the index-th tensor; nothing where the rank holds nothing of it.
inline std::optional<Piece> piece_of(const SavedCut& layout, const Shape& whole, size_t index, int rank) {
  const int64_t n = layout.size, owner = static_cast<int64_t>(index) % n;
  if (layout.kind == SavedCut::Kind::kOwned || whole.num_elements() < 2)
    return rank == owner ? std::optional(whole_piece(whole)) : std::nullopt;
  const auto flat = [](Piece piece, int64_t i, int64_t of) {
    const int64_t size = piece.size();
    piece.begin = size * i / of;
    piece.end = size * (i + 1) / of;
    return piece;
  };
  Piece piece;
  const int last = whole.rank() - 1;
  if (layout.kind == SavedCut::Kind::kRows) piece = whole_piece(cut_slice(whole, 0, rank, n));
  if (layout.kind == SavedCut::Kind::kColumns) piece = whole_piece(cut_slice(whole, last, rank, n));
  if (layout.kind == SavedCut::Kind::kFlat) piece = flat(whole_piece(whole), rank, n);
  if (layout.kind == SavedCut::Kind::kFlatOfColumns) {
    const int64_t groups = n % 2 == 0 ? 2 : 1, members = n / groups;
    piece = flat(whole_piece(cut_slice(whole, last, rank / members, groups)), rank % members, members);
  }
  return piece.size() > 0 ? std::optional(piece) : std::nullopt;
}

// What a rank passes to save_checkpoint.
inline std::vector<CheckpointTensor> tensors_of_rank(const Contents& contents, const SavedCut& layout, int rank) {
  std::vector<CheckpointTensor> tensors;
  for (size_t i = 0; i < contents.tensors.size(); ++i) {
    CheckpointTensor tensor = contents.tensors[i];
    const auto piece = piece_of(layout, tensor.shape, i, rank);
    if (!piece) continue;
    tensor.piece = *piece;
    tensor.read = [bytes = contents.bytes_of(tensor, *piece)](int64_t offset, std::span<std::byte> into) {
      if (!into.empty()) std::memcpy(into.data(), bytes.data() + offset, into.size());
      return ok_status();
    };
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// What the ranks say, by rank. One that does not come back within the group's 30 seconds says so.
inline std::vector<Status> save_by_ranks(FileSystem& files, const std::string& directory, const Contents& contents,
                                         const SavedCut& layout) {
  const CommGroup group = make_thread_group({.size = layout.size});
  std::vector<Status> said(group.size());
  on_all_ranks(group, [&](Communicator& ranks) {
    said[static_cast<size_t>(ranks.rank())] =
        save_checkpoint(files, directory, contents.state, tensors_of_rank(contents, layout, ranks.rank()), &ranks);
  });
  return said;
}

// Files in memory, to be read; counts, and can be damaged.
class MemoryFiles final : public FileSystem {
 public:
  // A copy of what is in the directory, under the same paths.
  explicit MemoryFiles(const std::string& directory) {
    for (const FileEntry& entry : *local_files().list(directory))
      contents[directory + "/" + entry.name] = *read_file(local_files(), directory + "/" + entry.name);
  }

  std::map<std::string, std::string> contents;
  std::atomic<int64_t> num_bytes_read = 0;
  std::atomic<int> num_open = 0, most_open = 0;

  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    const auto found = contents.find(path);
    if (found == contents.end()) return not_found(path + " is not there");
    return std::unique_ptr<FileReader>(std::make_unique<Reader>(*this, found->second));
  }
  Result<FileEntry> stat(const std::string& path) override {
    const auto found = contents.find(path);
    if (found == contents.end()) return not_found(path + " is not there");
    return FileEntry{.name = path, .size_bytes = static_cast<int64_t>(found->second.size())};
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override { return refused(path); }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override { return refused(path); }
  Status rename(const std::string& from, const std::string&) override { return refused(from); }
  Status remove_all(const std::string& path) override { return refused(path); }
  Status make_directories(const std::string& path) override { return refused(path); }
  Status sync_directory(const std::string& path) override { return refused(path); }
  Result<std::vector<FileEntry>> list(const std::string& directory) override { return refused(directory); }
  Result<int64_t> free_bytes(const std::string& path) override { return refused(path); }

 private:
  static Status refused(const std::string& path) { return unavailable(path + ": only to be read"); }

  class Reader final : public FileReader {
   public:
    Reader(MemoryFiles& files, const std::string& bytes) : files_(files), bytes_(bytes) {
      const int now = ++files_.num_open;
      if (now > files_.most_open) files_.most_open = now;
    }
    ~Reader() override { --files_.num_open; }
    int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
    Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
      const int64_t count = std::clamp<int64_t>(size() - offset, 0, static_cast<int64_t>(into.size()));
      if (count > 0) std::memcpy(into.data(), bytes_.data() + offset, static_cast<size_t>(count));
      files_.num_bytes_read += count;
      return count;
    }

   private:
    MemoryFiles& files_;
    const std::string& bytes_;
  };
};

}  // namespace colossus
