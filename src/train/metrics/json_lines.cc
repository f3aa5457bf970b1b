#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "train/metrics/metrics.h"

namespace colossus {
namespace {

constexpr std::string_view kStepKey = "{\"step\":";
constexpr int64_t kBlockBytes = 1 << 20;
constexpr size_t kMaxLineBytes = 16 << 20;

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Lines that are not ours (no step in front) stay.
bool keep_line(std::string_view line, int64_t last_step) {
  if (!line.starts_with(kStepKey)) return true;
  int64_t step = 0;
  const char* begin = line.data() + kStepKey.size();
  const auto [end, error] = std::from_chars(begin, line.data() + line.size(), step);
  return error != std::errc() || step <= last_step;
}

// Copies what is kept. The last line is dropped when it has no line break: the process died while writing it.
Status copy_until(FileReader& from, FileWriter& to, int64_t last_step) {
  std::string pending, block(kBlockBytes, '\0');
  for (int64_t offset = 0;;) {
    ASSIGN_OR_RETURN(const int64_t count,
                     from.read_at(offset, {reinterpret_cast<std::byte*>(block.data()), block.size()}));
    if (count == 0) return ok_status();
    offset += count;
    pending.append(block, 0, static_cast<size_t>(count));
    std::string kept;
    size_t begin = 0;
    for (size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string_view line(pending.data() + begin, end + 1 - begin);
      if (keep_line(line, last_step)) kept += line;
    }
    pending.erase(0, begin);
    if (pending.size() > kMaxLineBytes) return corrupt("a line of more than 16 MiB; is this a metrics file?");
    if (!kept.empty()) RETURN_IF_ERROR(to.append(as_bytes(kept)));
  }
}

// The new file is made beside the old one and renamed, so that a kill leaves one or the other.
Status cut_back(FileSystem& files, const std::string& path, int64_t last_step) {
  Result<std::unique_ptr<FileReader>> old = files.open(path);
  if (!old.ok()) return old.status().code() == ErrorCode::kNotFound ? ok_status() : old.status();
  const std::string part = path + ".part";
  ASSIGN_OR_RETURN(const std::unique_ptr<FileWriter> writer, files.create(part));
  if (Status copied = copy_until(**old, *writer, last_step); !copied.ok()) return copied.at(path);
  RETURN_IF_ERROR(writer->sync());
  RETURN_IF_ERROR(writer->close());
  return files.rename(part, path);
}

class JsonLines final : public MetricsWriter {
 public:
  explicit JsonLines(std::unique_ptr<FileWriter> file) : file_(std::move(file)) {}

  Status write(int64_t step, double unix_seconds, std::span<const Metric> metrics) override {
    std::string line = fmt::format("{}{},\"time\":{:.3f}", kStepKey, step, unix_seconds);
    for (const Metric& metric : metrics) {
      DCHECK(metric.name.find_first_of("\"\\\n") == std::string_view::npos, "metric names need no escapes");
      // JSON has no NaN and no infinity.
      line += std::isfinite(metric.value) ? fmt::format(",\"{}\":{}", metric.name, metric.value)
                                          : fmt::format(",\"{}\":null", metric.name);
    }
    line += "}\n";
    return file_->append(as_bytes(line));
  }
  Status close() override {
    RETURN_IF_ERROR(file_->sync());
    return file_->close();
  }

 private:
  std::unique_ptr<FileWriter> file_;
};

class Fanout final : public MetricsWriter {
 public:
  explicit Fanout(std::vector<std::unique_ptr<MetricsWriter>> writers) : writers_(std::move(writers)) {}

  Status write(int64_t step, double unix_seconds, std::span<const Metric> metrics) override {
    return each([&](MetricsWriter& writer) { return writer.write(step, unix_seconds, metrics); });
  }
  Status close() override {
    return each([](MetricsWriter& writer) { return writer.close(); });
  }

 private:
  template <class F>
  Status each(F&& call) {
    Status first;
    for (const auto& writer : writers_) {
      Status status = call(*writer);
      if (first.ok() && !status.ok()) first = std::move(status);
    }
    return first;
  }

  std::vector<std::unique_ptr<MetricsWriter>> writers_;
};

}  // namespace

Result<std::unique_ptr<MetricsWriter>> open_json_lines(FileSystem& files, const std::string& path,
                                                       std::optional<int64_t> last_step) {
  if (last_step) RETURN_IF_ERROR(cut_back(files, path, *last_step));
  ASSIGN_OR_RETURN(std::unique_ptr<FileWriter> file, last_step ? files.open_to_append(path) : files.create(path));
  return std::unique_ptr<MetricsWriter>(std::make_unique<JsonLines>(std::move(file)));
}

std::unique_ptr<MetricsWriter> write_to_all(std::vector<std::unique_ptr<MetricsWriter>> writers) {
  return std::make_unique<Fanout>(std::move(writers));
}

}  // namespace colossus
