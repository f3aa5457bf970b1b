#include "cli/import_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "convert/export_gguf.h"
#include "convert/export_model.h"
#include "convert/import_model.h"
#include "convert/inspect.h"
#include "io/s3/s3_files.h"

namespace colossus {
namespace {

std::string format_bytes(int64_t num_bytes) { return format_quantity(static_cast<double>(num_bytes), "bytes"); }

// What to show while bytes go by; asks for a stop when the user does.
class ByteProgress {
 public:
  explicit ByteProgress(std::string label)
      : label_(std::move(label)), interrupt_("stopping; the same command goes on") {}
  bool operator()(int64_t done, int64_t all) {
    if (!display_)
      display_ = std::make_unique<Progress>(
          ProgressOptions{.label = label_, .unit = "bytes", .total = static_cast<double>(all)});
    display_->update(static_cast<double>(done));
    return !interrupt_.requested();
  }
  void finish() {
    if (display_) display_->finish();
  }

 private:
  const std::string label_;
  const InterruptScope interrupt_;
  std::unique_ptr<Progress> display_;
};

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
}

struct ImportArguments {
  std::string from, to, tokenizer;
  double file_gigabytes = 4;
};

Status run_import(const ImportArguments& arguments) {
  ByteProgress progress("import");
  const auto report = import_model(local_files(), arguments.from, arguments.to,
                                   {.tokenizer = arguments.tokenizer,
                                    .max_file_bytes = static_cast<int64_t>(arguments.file_gigabytes * 1e9),
                                    .progress = [&](int64_t done, int64_t all) { return progress(done, all); }});
  progress.finish();
  if (!report.ok()) return report.status();
  print_notes(report->notes);
  return print(fmt::format("{}: {} ({}), {} tensors, {}\n", arguments.to, arguments.from,
                           report->family.empty() ? report->format : report->family, report->num_tensors,
                           format_bytes(report->num_bytes)));
}

struct ExportArguments {
  std::string from, to = "hf", out, family, type = "stored";
  double shard_gigabytes = 5;
};

Result<ExportReport> export_as(const ExportArguments& arguments, ByteProgress& progress) {
  const auto tell = [&](int64_t done, int64_t all) { return progress(done, all); };
  if (arguments.to == "hf") {
    if (arguments.type != "stored")
      return invalid("[--type] is for gguf; tensors of a Hugging Face directory keep their type");
    return export_hf(all_files(), arguments.from, arguments.out,
                     {.family = arguments.family,
                      .max_file_bytes = static_cast<int64_t>(arguments.shard_gigabytes * 1e9),
                      .progress = tell});
  }
  if (!arguments.family.empty()) return invalid("[--family] is for hf; a GGUF file is what fits the network");
  GgufExportType type = GgufExportType::kAsStored;
  if (arguments.type == "f32") type = GgufExportType::kF32;
  if (arguments.type == "bf16") type = GgufExportType::kBF16;
  if (arguments.type == "q8_0") type = GgufExportType::kQ8_0;
  return export_gguf(all_files(), arguments.from, arguments.out, {.type = type, .progress = tell});
}

Status run_export(const ExportArguments& arguments) {
  ByteProgress progress("export");
  const auto report = export_as(arguments, progress);
  progress.finish();
  if (!report.ok()) return report.status();
  print_notes(report->notes);
  return print(fmt::format("{}: {}, {} tensors in {} file{}, {}\n", arguments.out, report->family, report->num_tensors,
                           report->num_files, report->num_files == 1 ? "" : "s", format_bytes(report->num_bytes)));
}

struct InspectArguments {
  std::string path;
  bool json = false;
  bool checksums = false;
};

Result<int> run_inspect(const InspectArguments& arguments) {
  ASSIGN_OR_RETURN(const Inspection inspection,
                   inspect_path(local_files(), arguments.path, {.checksums = arguments.checksums}));
  RETURN_IF_ERROR(print(arguments.json ? inspection_json(inspection) : inspection_text(inspection)));
  return inspection.faults.empty() ? 0 : 1;
}

}  // namespace

void add_import_command(Command root) {
  const auto arguments = std::make_shared<ImportArguments>();
  Command command = root.add_command(
      "import",
      "Take over somebody else's model: a Hugging Face directory with safetensors, a GGUF file, or a llama2.c .bin");
  command.option("from", arguments->from, "directory with config.json, or file", {.required = true});
  command.option("to", arguments->to,
                 "a directory that is not there yet: a checkpoint, for generate, chat, eval, train",
                 {.required = true});
  command.option("--tokenizer", arguments->tokenizer, "of a llama2.c model: the .bin with its pieces");
  command.option("--shard-gb", arguments->file_gigabytes,
                 "most of a file, in 10^9 bytes: what has to be written again after a kill", {.min = 1e-6, .max = 1e6});
  command.run([arguments] { return run_import(*arguments); });
}

void add_export_command(Command root) {
  const auto arguments = std::make_shared<ExportArguments>();
  Command command = root.add_command("export", "Write a model for other programs");
  command.option("from", arguments->from, "a run (its newest checkpoint) or a checkpoint", {.required = true});
  command.option("--to", arguments->to, "format: hf is a Hugging Face directory, gguf a file for llama.cpp",
                 {.choices = {"hf", "gguf"}});
  command.option("--out", arguments->out, "a directory, or for gguf a file, that is not there yet", {.required = true});
  command.option("--type", arguments->type,
                 "of matrices in a GGUF file; stored: bf16 where the model is that, else f32",
                 {.choices = {"stored", "f32", "bf16", "q8_0"}});
  command.option("--family", arguments->family,
                 "hf: names of its tensors; \"\": as imported, or what fits the network");
  command.option("--shard-gb", arguments->shard_gigabytes, "hf: most of a file, in 10^9 bytes",
                 {.min = 1e-6, .max = 1e6});
  command.run([arguments] { return run_export(*arguments); });
}

void add_inspect_command(Command root) {
  const auto arguments = std::make_shared<InspectArguments>();
  Command command = root.add_command(
      "inspect",
      "What is in a model's files, and what is wrong with them: safetensors, a Hugging Face directory, a "
      "GGUF file, a llama2.c .bin, a checkpoint, a tokenizer");
  command.option("path", arguments->path, "file or directory", {.required = true});
  command.flag("--json", arguments->json, "one JSON object");
  command.flag("--checksums", arguments->checksums,
               "read all tensors: XXH3-64 of each, and NaN and infinities counted");
  command.run_to_exit_code([arguments] { return run_inspect(*arguments); });
}

}  // namespace colossus
