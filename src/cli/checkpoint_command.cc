#include "cli/checkpoint_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>

#include "checkpoint/checkpoint.h"
#include "checkpoint/consolidate.h"
#include "checkpoint/copy.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "io/s3/s3_files.h"

namespace colossus {
namespace {

Result<Checkpoint> find(const std::string& path) {
  std::vector<Status> passed_over;
  auto found = find_checkpoint(all_files(), path, passed_over);
  for (const Status& status : passed_over) fmt::print(stderr, "passed over: {}\n", status.message());
  return found;
}

std::string format_bytes(int64_t num_bytes) { return format_quantity(static_cast<double>(num_bytes), "bytes"); }

struct Sum {
  int64_t num_tensors = 0;
  int64_t num_elements = 0;
  int64_t num_bytes = 0;
};

Status show(const std::string& path) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find(path));
  const CheckpointState& state = checkpoint.state();
  std::string out = fmt::format(
      "{}\nstep             {}\nvalidation loss  {}\n", checkpoint.path(), state.step,
      state.validation_loss ? fmt::format("{:.4f} nats/token", *state.validation_loss) : "not measured at this step");
  std::vector<std::string> texts;
  for (const auto& [name, text] : state.texts) texts.push_back(name);
  out += fmt::format("texts            {}\n", fmt::join(texts, ", "));

  std::map<std::string, Sum> sums;
  std::map<std::string, int64_t> pieces_of_file;
  std::string lines;
  for (const Checkpoint::Entry& entry : checkpoint.tensors()) {
    Sum& sum = sums[entry.file];
    ++sum.num_tensors;
    sum.num_elements += entry.shape.num_elements();
    sum.num_bytes += entry.num_bytes();
    for (const StoredPiece& stored : entry.pieces) ++pieces_of_file[stored.file_name];
    lines += fmt::format("  {:<40} {:<4} {:<24} {} piece{}\n", entry.file + "/" + entry.name, dtype_name(entry.dtype),
                         entry.shape.to_string(), entry.pieces.size(), entry.pieces.size() == 1 ? "" : "s");
  }
  for (const auto& [file, sum] : sums)
    out += fmt::format("{:<16} {} tensors, {} elements, {}\n", file, sum.num_tensors,
                       format_quantity(static_cast<double>(sum.num_elements)), format_bytes(sum.num_bytes));
  out += "\nfiles\n";
  for (const auto& [name, num_bytes] : checkpoint.file_bytes())
    out += fmt::format("  {:<40} {:>9}  {} pieces\n", name, format_bytes(num_bytes), pieces_of_file[name]);
  return print(out + "\ntensors\n" + lines);
}

int64_t num_tensor_bytes(const Checkpoint& checkpoint, bool model_only) {
  int64_t num_bytes = 0;
  for (const Checkpoint::Entry& entry : checkpoint.tensors())
    if (!model_only || entry.file == "model") num_bytes += entry.num_bytes();
  return num_bytes;
}

// Every fault on a line; ok when there is none.
Status verify_one(const std::string& path, const InterruptScope& interrupt) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open_unchecked(all_files(), path));
  const int64_t num_bytes = num_tensor_bytes(checkpoint, false);
  Progress display(ProgressOptions{.label = "verify", .unit = "bytes", .total = static_cast<double>(num_bytes)});
  int64_t num_faults = 0;
  const Status verified = checkpoint.verify([&](int64_t done, const Status& fault) {
    display.update(static_cast<double>(done));
    if (!fault.ok()) {
      ++num_faults;
      display.note("colossus: " + fault.message());
    }
    return !interrupt.requested();
  });
  display.finish();
  if (num_faults > 0)
    return Status(verified.code(), fmt::format("[{}] {} fault{}", path, num_faults, num_faults == 1 ? "" : "s"));
  RETURN_IF_ERROR(verified);
  return print(fmt::format("{}: {} tensors in {} files, {}; all checksums hold\n", path, checkpoint.tensors().size(),
                           checkpoint.file_bytes().size(), format_bytes(num_bytes)));
}

Status verify(const std::string& path) {
  const InterruptScope interrupt("stopping");
  std::vector<std::string> paths = {path};
  if (!all_files().stat(path + "/manifest.json").ok()) {
    ASSIGN_OR_RETURN(const std::string directory, directory_of_checkpoints(all_files(), path));
    ASSIGN_OR_RETURN(paths, list_checkpoints(all_files(), directory));
    if (paths.empty()) return not_found(fmt::format("[{}] holds no checkpoint", directory));
  }
  Status first;
  for (const std::string& one : paths) {
    const Status verified = verify_one(one, interrupt);
    if (verified.ok()) continue;
    report(verified);
    if (first.ok()) first = Status(verified.code(), "");  // it was told
    if (interrupt.requested()) break;
  }
  return first;
}

struct ConsolidateArguments {
  std::string from, to;
  bool model_only = false;
};

Status consolidate(const ConsolidateArguments& arguments) {
  const InterruptScope interrupt("stopping; what was written goes away");
  ASSIGN_OR_RETURN(const Checkpoint from, find(arguments.from));
  const int64_t num_bytes = num_tensor_bytes(from, arguments.model_only);
  Progress display(ProgressOptions{.label = "consolidate", .unit = "bytes", .total = static_cast<double>(num_bytes)});
  RETURN_IF_ERROR(consolidate_checkpoint(all_files(), from.path(), arguments.to,
                                         {.model_only = arguments.model_only, .progress = [&](int64_t done) {
                                            display.update(static_cast<double>(done));
                                            return !interrupt.requested();
                                          }}));
  display.finish();
  return print(
      fmt::format("{}: step {}, {} of tensors, verified\n", arguments.to, from.state().step, format_bytes(num_bytes)));
}

Status copy(const std::string& from_path, const std::string& to) {
  const InterruptScope interrupt("stopping; what was copied goes away");
  ASSIGN_OR_RETURN(const Checkpoint from, find(from_path));
  int64_t num_bytes = 0;
  for (const auto& [name, file_bytes] : from.file_bytes()) num_bytes += file_bytes;
  Progress display(ProgressOptions{.label = "copy", .unit = "bytes", .total = static_cast<double>(num_bytes)});
  RETURN_IF_ERROR(copy_checkpoint(all_files(), from.path(), to, {.progress = [&](int64_t done) {
                                    display.update(static_cast<double>(done));
                                    return !interrupt.requested();
                                  }}));
  display.finish();
  return print(fmt::format("{}: step {}, {}\n", to, from.state().step, format_bytes(num_bytes)));
}

}  // namespace

void add_checkpoint_command(Command root) {
  Command command = root.add_command(
      "checkpoint", "Look at checkpoints, verify and copy them, make one file of many; here or at s3://bucket/key");
  const auto shown = std::make_shared<std::string>(), verified = std::make_shared<std::string>();
  Command look = command.add_command("show", "Step, loss, files, and every tensor with its pieces");
  look.option("directory", *shown, "a run (its newest checkpoint) or a checkpoint", {.required = true});
  look.run([shown] { return show(*shown); });
  Command check = command.add_command("verify", "Read everything and compare all checksums; every fault is told");
  check.option("directory", *verified, "a run (all its checkpoints) or a checkpoint", {.required = true});
  check.run([verified] { return verify(*verified); });
  const auto arguments = std::make_shared<ConsolidateArguments>();
  Command join = command.add_command(
      "consolidate", "Write a checkpoint of many ranks as one model.safetensors and one optimizer.safetensors");
  join.option("from", arguments->from, "a run (its newest checkpoint) or a checkpoint", {.required = true});
  join.option("to", arguments->to, "a directory that is not there yet", {.required = true});
  join.flag("--model-only", arguments->model_only,
            "leave the optimizer's state out: to use the model, not to train on");
  join.run([arguments] { return consolidate(*arguments); });
  const auto from = std::make_shared<std::string>(), to = std::make_shared<std::string>();
  Command carry = command.add_command("copy", "From a disk to S3, back, or anywhere, as it is; checksums are compared");
  carry.option("from", *from, "a run (its newest checkpoint) or a checkpoint", {.required = true});
  carry.option("to", *to, "a directory that is not there yet; s3://bucket/key", {.required = true});
  carry.run([from, to] { return copy(*from, *to); });
}

}  // namespace colossus
