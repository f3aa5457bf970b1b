#include "convert/import_model.h"

#include "checkpoint/stream_save.h"

namespace colossus {

Result<ImportReport> import_model(FileSystem& files, const std::string& from, const std::string& to,
                                  const ImportOptions& options) {
  ASSIGN_OR_RETURN(const ModelToImport model, open_import(files, from, options.tokenizer));
  RETURN_IF_ERROR(stream_checkpoint(
      files, to, model.state, model.tensors,
      {.identity = model.source->identity, .max_file_bytes = options.max_file_bytes, .progress = [&](int64_t done) {
         return !options.progress || options.progress(done, model.report.num_bytes);
       }}));
  return model.report;
}

}  // namespace colossus
