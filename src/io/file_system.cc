#include "io/file_system.h"

#include <fmt/format.h>

namespace colossus {
namespace {

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status write_and_close(FileWriter& writer, std::string_view bytes) {
  RETURN_IF_ERROR(writer.append(std::as_bytes(std::span(bytes.data(), bytes.size()))));
  RETURN_IF_ERROR(writer.sync());
  return writer.close();
}

Status write_beside_and_rename(FileSystem& files, const std::string& beside, const std::string& path,
                               std::string_view bytes) {
  {
    ASSIGN_OR_RETURN(const auto writer, files.create(beside));
    RETURN_IF_ERROR(write_and_close(*writer, bytes));
  }
  RETURN_IF_ERROR(files.rename(beside, path));
  return files.sync_directory(directory_of(path));
}

}  // namespace

Status read_exactly(FileReader& file, int64_t offset, std::span<std::byte> into) {
  ASSIGN_OR_RETURN(const int64_t got, file.read_at(offset, into));
  if (got == static_cast<int64_t>(into.size())) return ok_status();
  return corrupt(fmt::format("the file ends at byte {} of {} needed; it was cut", offset + got,
                             offset + static_cast<int64_t>(into.size())));
}

Result<std::string> read_file(FileSystem& files, const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const auto file, files.open(path));
  if (file->size() > max_bytes) {
    return invalid(
        fmt::format("{} has {} bytes, more than the {} expected of such a file", path, file->size(), max_bytes));
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  // A file that grows meanwhile is read up to the size it had; one that shrinks gives what is left.
  ASSIGN_OR_RETURN(const int64_t got, file->read_at(0, std::as_writable_bytes(std::span(text))));
  text.resize(static_cast<size_t>(got));
  return text;
}

Status write_file_atomically(FileSystem& files, const std::string& path, std::string_view bytes) {
  if (!files.can_rename(path)) {
    ASSIGN_OR_RETURN(const auto writer, files.create(path));
    return write_and_close(*writer, bytes);
  }
  const std::string beside = path + ".partial";
  const Status written = write_beside_and_rename(files, beside, path, bytes);
  // The first error is the one worth telling; the part left behind may be gone already.
  if (!written.ok()) static_cast<void>(files.remove_all(beside));
  return written;
}

}  // namespace colossus
