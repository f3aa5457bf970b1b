// TensorBoard's event files: TFRecords of Event messages (tensorflow/core/util/event.proto, summary.proto), of which
// the few fields needed here are encoded by hand.
//   record: uint64 length, uint32 masked crc32c of the length, the bytes, uint32 masked crc32c of the bytes.
#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "train/metrics/metrics.h"

namespace colossus {
namespace {

static_assert(std::endian::native == std::endian::little, "records and protocol buffers are little-endian");

constexpr std::array<uint32_t, 256> make_crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);  // Castagnoli, reflected
    table[byte] = crc;
  }
  return table;
}

// Records are a few hundred bytes a step: a byte at a time is enough.
uint32_t masked_crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc32c_table();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  crc ^= 0xffffffffu;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
std::string raw_bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string record(std::string_view bytes) {
  const std::string length = raw_bytes(static_cast<uint64_t>(bytes.size()));
  return length + raw_bytes(masked_crc32c(length)) + std::string(bytes) + raw_bytes(masked_crc32c(bytes));
}

// Protocol buffers' wire types.
constexpr uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(uint64_t field, uint64_t wire) { return varint(field << 3 | wire); }
std::string bytes_field(uint64_t field, std::string_view bytes) {
  return key(field, kBytes) + varint(bytes.size()) + std::string(bytes);
}

// Fields of Event.
std::string event_start(double unix_seconds, int64_t step) {
  return key(1, kFixed64) + raw_bytes(unix_seconds) + key(2, kVarint) + varint(static_cast<uint64_t>(step));
}
constexpr uint64_t kFileVersion = 3, kSummary = 5, kSessionLog = 7;
// SessionLog.status = START: TensorBoard drops what it read before of this and later steps.
const std::string& session_start() {
  static const std::string* const bytes = new std::string(key(1, kVarint) + varint(1));
  return *bytes;
}

class EventFile final : public MetricsWriter {
 public:
  explicit EventFile(std::unique_ptr<FileWriter> file) : file_(std::move(file)) {}

  Status write(int64_t step, double unix_seconds, std::span<const Metric> metrics) override {
    std::string summary;
    for (const Metric& metric : metrics) {
      const std::string value =
          bytes_field(1, metric.name) + key(2, kFixed32) + raw_bytes(static_cast<float>(metric.value));
      summary += bytes_field(1, value);
    }
    return append(event_start(unix_seconds, step) + bytes_field(kSummary, summary));
  }
  Status append(std::string_view event) {
    const std::string bytes = record(event);
    return file_->append({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  }
  Status close() override {
    RETURN_IF_ERROR(file_->sync());
    return file_->close();
  }

 private:
  std::unique_ptr<FileWriter> file_;
};

}  // namespace

Result<std::unique_ptr<MetricsWriter>> open_event_file(FileSystem& files, const std::string& directory,
                                                       double unix_seconds, std::optional<int64_t> last_step) {
  constexpr std::string_view kPrefix = "events.out.tfevents.";
  RETURN_IF_ERROR(files.make_directories(directory));
  ASSIGN_OR_RETURN(const std::vector<FileEntry> entries, files.list(directory));
  int older = 0;
  for (const FileEntry& entry : entries) {
    if (!entry.name.starts_with(kPrefix)) continue;
    if (last_step) {
      ++older;
    } else {
      RETURN_IF_ERROR(files.remove_all(directory + "/" + entry.name));
    }
  }
  // TensorBoard reads a directory's files by name: time first, and a count for two starts within one second.
  const std::string name = fmt::format("{}{:010d}.{:04d}.colossus", kPrefix, static_cast<int64_t>(unix_seconds), older);
  ASSIGN_OR_RETURN(std::unique_ptr<FileWriter> file, files.create(directory + "/" + name));
  auto events = std::make_unique<EventFile>(std::move(file));
  RETURN_IF_ERROR(events->append(event_start(unix_seconds, 0) + bytes_field(kFileVersion, "brain.Event:2")));
  if (last_step) {
    RETURN_IF_ERROR(
        events->append(event_start(unix_seconds, *last_step + 1) + bytes_field(kSessionLog, session_start())));
  }
  return std::unique_ptr<MetricsWriter>(std::move(events));
}

}  // namespace colossus
