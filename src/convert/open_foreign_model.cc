#include <fmt/format.h>

#include "convert/gguf_model.h"
#include "convert/llama2c.h"
#include "convert/opened_model.h"

namespace colossus {

Result<OpenedModel> open_foreign_model(FileSystem& files, const std::string& path, const std::string& tokenizer) {
  std::string place = path;
  while (place.size() > 1 && place.ends_with('/')) place.pop_back();
  ASSIGN_OR_RETURN(const FileEntry entry, files.stat(place));
  if (entry.is_directory) {
    if (!tokenizer.empty())
      return invalid("[--tokenizer] is for llama2.c files; a directory has its own tokenizer.json");
    if (files.stat(place + "/manifest.json").ok() || files.stat(place + "/checkpoints").ok())
      return invalid(fmt::format("[{}] is a run or checkpoint of this program already; use it as it is", place));
    return open_hf_model(files, place);
  }
  if (place.ends_with(".safetensors"))
    return invalid(fmt::format("[{}] holds tensors alone; give the directory with config.json beside it", place));
  if (place.ends_with(".gguf")) {
    if (!tokenizer.empty()) return invalid("[--tokenizer] is for llama2.c files; a GGUF file has its own");
    return open_gguf_model(files, place);
  }
  if (place.ends_with(".bin")) {
    ASSIGN_OR_RETURN(const auto file, files.open(place));
    std::array<std::byte, 4> first{};
    RETURN_IF_ERROR(file->read_at(0, first));
    // A zip archive or a pickle's first opcode: what torch.save writes.
    if ((first[0] == std::byte{'P'} && first[1] == std::byte{'K'}) || first[0] == std::byte{0x80})
      return invalid(fmt::format(
          "[{}] is a pickle. Pickles are programs and are never run here. Where you trust it, write it as safetensors "
          "first, with PyTorch: safetensors.torch.save_file(torch.load(\"{}\", weights_only=True), "
          "\"model.safetensors\")",
          place, place.substr(place.rfind('/') + 1)));
    return open_llama2c(files, place, tokenizer);
  }
  return invalid(fmt::format(
      "[{}] is no model that is known here; give a directory with config.json and *.safetensors, a .gguf file, or a "
      "llama2.c .bin",
      place));
}

}  // namespace colossus
