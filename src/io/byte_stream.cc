#include "io/byte_stream.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <vector>

namespace colossus {
namespace {

constexpr size_t kInputBytes = size_t{128} << 10;

// The file's own bytes, a buffer at a time.
class Input {
 public:
  Input(std::string path, std::unique_ptr<FileReader> file) : path_(std::move(path)), file_(std::move(file)) {}

  const std::string& path() const { return path_; }
  int64_t consumed_bytes() const { return offset_ - static_cast<int64_t>(rest_.size()); }
  std::span<const std::byte> rest() const { return rest_; }
  void take(size_t count) { rest_ = rest_.subspan(count); }

  // Makes rest() non-empty unless the file is at its end.
  Status refill() {
    if (!rest_.empty()) return ok_status();
    if (buffer_.empty()) buffer_.resize(kInputBytes);
    ASSIGN_OR_RETURN(const int64_t got, file_->read_at(offset_, buffer_));
    offset_ += got;
    rest_ = std::span(buffer_).first(static_cast<size_t>(got));
    return ok_status();
  }

  Result<int64_t> read_through(std::span<std::byte> into) {
    if (rest_.empty() && into.size() >= kInputBytes) {
      ASSIGN_OR_RETURN(const int64_t got, file_->read_at(offset_, into));
      offset_ += got;
      return got;
    }
    RETURN_IF_ERROR(refill());
    const size_t count = std::min(into.size(), rest_.size());
    std::copy_n(rest_.begin(), count, into.begin());
    take(count);
    return static_cast<int64_t>(count);
  }

 private:
  std::string path_;
  std::unique_ptr<FileReader> file_;
  std::vector<std::byte> buffer_;
  std::span<const std::byte> rest_;  // into buffer_, which keeps its bytes when it moves
  int64_t offset_ = 0;               // of the byte behind rest_
};

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(Input input) : input_(std::move(input)) {}
  Result<int64_t> read(std::span<std::byte> into) override { return input_.read_through(into); }
  int64_t consumed_bytes() const override { return input_.consumed_bytes(); }

 private:
  Input input_;
};

class GzipStream final : public ByteStream {
 public:
  explicit GzipStream(Input input) : input_(std::move(input)) {
    CHECK(inflateInit2(&state_, 15 + 16) == Z_OK, "zlib found no memory");  // 16: a gzip header and its checksum
  }
  ~GzipStream() override { inflateEnd(&state_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

  Result<int64_t> read(std::span<std::byte> into) override {
    size_t done = 0;
    while (done < into.size()) {
      RETURN_IF_ERROR(input_.refill());
      if (input_.rest().empty()) {
        if (between_members_) break;
        return corrupt(fmt::format("[{}] the gzip data ends too early: the file was cut", input_.path()));
      }
      if (between_members_ && !start_member()) continue;
      ASSIGN_OR_RETURN(const size_t got, inflate_some(into.subspan(done)));
      done += got;
    }
    return static_cast<int64_t>(done);
  }
  int64_t consumed_bytes() const override { return input_.consumed_bytes(); }

 private:
  // False: a zero byte of padding behind a member was passed over.
  bool start_member() {
    if (members_ > 0 && input_.rest().front() == std::byte{0}) {
      input_.take(1);
      return false;
    }
    if (members_ > 0) inflateReset(&state_);
    ++members_;
    between_members_ = false;
    return true;
  }

  Result<size_t> inflate_some(std::span<std::byte> into) {
    const auto rest = input_.rest();
    const auto room = static_cast<uInt>(std::min(into.size(), size_t{1} << 30));
    state_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(rest.data()));
    state_.avail_in = static_cast<uInt>(rest.size());
    state_.next_out = reinterpret_cast<Bytef*>(into.data());
    state_.avail_out = room;
    const int result = inflate(&state_, Z_NO_FLUSH);
    input_.take(rest.size() - state_.avail_in);
    if (result == Z_STREAM_END)
      between_members_ = true;
    else if (result != Z_OK && result != Z_BUF_ERROR) {
      return corrupt(fmt::format("[{}] the gzip data is damaged before byte {}{}{}", input_.path(), consumed_bytes(),
                                 state_.msg != nullptr ? ": " : "", state_.msg != nullptr ? state_.msg : ""));
    }
    return room - state_.avail_out;
  }

  Input input_;
  z_stream state_{};
  int64_t members_ = 0;
  bool between_members_ = true;
};

class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(Input input) : input_(std::move(input)), state_(ZSTD_createDStream(), ZSTD_freeDStream) {
    CHECK(state_ != nullptr, "zstd found no memory");
  }

  Result<int64_t> read(std::span<std::byte> into) override {
    ZSTD_outBuffer out = {into.data(), into.size(), 0};
    while (out.pos < out.size) {
      RETURN_IF_ERROR(input_.refill());
      const auto rest = input_.rest();
      ZSTD_inBuffer in = {rest.data(), rest.size(), 0};
      const size_t before = out.pos;
      if (rest.empty() && wanted_ == 0) break;
      // With no input left this still gives what the decoder holds back.
      const size_t wanted = ZSTD_decompressStream(state_.get(), &out, &in);
      input_.take(in.pos);
      if (ZSTD_isError(wanted)) return damaged(wanted);
      wanted_ = wanted;
      if (rest.empty() && out.pos == before) {
        return corrupt(fmt::format("[{}] the zstd data ends too early: the file was cut", input_.path()));
      }
    }
    return static_cast<int64_t>(out.pos);
  }
  int64_t consumed_bytes() const override { return input_.consumed_bytes(); }

 private:
  Status damaged(size_t error) const {
    const std::string message =
        fmt::format("[{}] {} before byte {}", input_.path(), ZSTD_getErrorName(error), consumed_bytes());
    if (ZSTD_getErrorName(error) == std::string_view("Frame requires too much memory for decoding")) {
      return exhausted(message + "; compress it again without --long");
    }
    return corrupt(message);
  }

  Input input_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> state_;
  size_t wanted_ = 0;  // 0: between frames
};

// Stops at what kMaxExpansion says.
class BoundedStream final : public ByteStream {
 public:
  BoundedStream(std::string path, std::unique_ptr<ByteStream> stream)
      : path_(std::move(path)), stream_(std::move(stream)) {}

  Result<int64_t> read(std::span<std::byte> into) override {
    ASSIGN_OR_RETURN(const int64_t got, stream_->read(into));
    given_ += static_cast<size_t>(got);
    const auto consumed = static_cast<size_t>(consumed_bytes());
    if (given_ > kFreeExpandedBytes && (given_ - kFreeExpandedBytes) / kMaxExpansion > consumed)
      return exhausted(fmt::format(
          "[{}] {} bytes of compressed data gave {}, more than {} times as many: made to fill a disk? If it "
          "is meant so, decompress it first and give the plain file",
          path_, consumed, given_, kMaxExpansion));
    return got;
  }
  int64_t consumed_bytes() const override { return stream_->consumed_bytes(); }

 private:
  const std::string path_;
  const std::unique_ptr<ByteStream> stream_;
  size_t given_ = 0;
};

}  // namespace

Compression detect_compression(std::span<const std::byte> first_bytes) {
  const auto byte = [&](size_t i) { return i < first_bytes.size() ? std::to_integer<int>(first_bytes[i]) : -1; };
  if (byte(0) == 0x1f && byte(1) == 0x8b && byte(2) == 8) return Compression::kGzip;
  if (byte(0) == 0x28 && byte(1) == 0xb5 && byte(2) == 0x2f && byte(3) == 0xfd) return Compression::kZstd;
  // A skippable frame, as pzstd and seekable zstd write first.
  if (byte(0) >= 0x50 && byte(0) <= 0x5f && byte(1) == 0x2a && byte(2) == 0x4d && byte(3) == 0x18)
    return Compression::kZstd;
  return Compression::kNone;
}

Result<std::unique_ptr<ByteStream>> open_byte_stream(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(auto file, files.open(path));
  Input input(path, std::move(file));
  RETURN_IF_ERROR(input.refill());
  std::unique_ptr<ByteStream> stream;
  switch (detect_compression(input.rest())) {
    case Compression::kGzip: stream = std::make_unique<GzipStream>(std::move(input)); break;
    case Compression::kZstd: stream = std::make_unique<ZstdStream>(std::move(input)); break;
    case Compression::kNone: return std::unique_ptr<ByteStream>(std::make_unique<PlainStream>(std::move(input)));
  }
  return std::unique_ptr<ByteStream>(std::make_unique<BoundedStream>(path, std::move(stream)));
}

}  // namespace colossus
