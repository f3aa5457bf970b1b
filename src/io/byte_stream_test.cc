#include "io/byte_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "io/testing.h"
#include "io/testing_compression.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

std::string sample_text(size_t lines) {
  std::string text;
  for (size_t i = 0; i < lines; ++i) text += "line " + std::to_string(i * 7919) + " of the sample\n";
  return text;
}

Result<std::string> decompress(const std::string& bytes, size_t piece = 1000) {
  const TemporaryDirectory directory;
  RETURN_IF_ERROR(write_file_atomically(local_files(), directory / "file", bytes));
  ASSIGN_OR_RETURN(const auto stream, open_byte_stream(local_files(), directory / "file"));
  std::string text, buffer(piece, '\0');
  while (true) {
    ASSIGN_OR_RETURN(const int64_t got, stream->read(std::as_writable_bytes(std::span(buffer))));
    if (got == 0) break;
    text.append(buffer, 0, static_cast<size_t>(got));
  }
  CHECK(stream->consumed_bytes() == static_cast<int64_t>(bytes.size()));
  return text;
}

TEST(ByteStream, PlainGzipZstdInAnyPieces) {
  const std::string text = sample_text(40000);  // beyond every buffer
  for (const size_t piece : {size_t{1013}, size_t{131072}, size_t{1} << 22}) {
    EXPECT_EQ(*decompress(text, piece), text);
    EXPECT_EQ(*decompress(gzip(text), piece), text);
    EXPECT_EQ(*decompress(zstd(text), piece), text);
  }
  EXPECT_EQ(*decompress(zstd("abc"), 1), "abc");
  EXPECT_EQ(*decompress(gzip("abc"), 1), "abc");
}

TEST(ByteStream, EmptyContents) {
  EXPECT_EQ(*decompress(""), "");
  EXPECT_EQ(*decompress(gzip("")), "");
  EXPECT_EQ(*decompress(zstd("")), "");
  EXPECT_EQ(*decompress("\x1f"), "\x1f");
}

TEST(ByteStream, ManyMembersAndFrames) {
  const std::string text = sample_text(3000);
  EXPECT_EQ(*decompress(gzip(text) + gzip("") + gzip(text)), text + text);
  EXPECT_EQ(*decompress(gzip(text) + std::string(512, '\0')), text);
  EXPECT_EQ(*decompress(zstd(text) + zstd("") + zstd(text)), text + text);
  const std::string skippable = std::string("\x50\x2a\x4d\x18\x03\0\0\0xyz", 11);
  EXPECT_EQ(*decompress(skippable + zstd(text) + skippable), text);
}

TEST(ByteStream, CutOrDamagedIsCorrupt) {
  const std::string text = sample_text(3000);
  for (const std::string& good : {gzip(text), zstd(text)}) {
    for (const size_t size : {size_t{5}, good.size() / 2, good.size() - 1}) {
      const auto cut = decompress(good.substr(0, size));
      ASSERT_FALSE(cut.ok()) << size << " of " << good.size();
      EXPECT_EQ(cut.status().code(), ErrorCode::kCorrupt);
      EXPECT_THAT(cut.status().message(), HasSubstr("cut"));
    }
    EXPECT_EQ(decompress(good + "rubbish").status().code(), ErrorCode::kCorrupt);
  }
  std::string flipped = gzip(text);
  flipped[flipped.size() / 2] ^= 0x55;
  EXPECT_EQ(decompress(flipped).status().code(), ErrorCode::kCorrupt);
}

TEST(ByteStream, ZstdWindowsBeyondTheLimitAreRefused) {
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, 28);
  std::string out(1000, '\0');
  ZSTD_outBuffer output = {out.data(), out.size(), 0};
  ZSTD_inBuffer input = {"hello", 5, 0};  // flushed and not ended at once: the window stays as declared
  ZSTD_compressStream2(context.get(), &output, &input, ZSTD_e_flush);
  ZSTD_inBuffer none = {nullptr, 0, 0};
  ZSTD_compressStream2(context.get(), &output, &none, ZSTD_e_end);
  const auto refused = decompress(out.substr(0, output.pos));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), ErrorCode::kExhausted);
  EXPECT_THAT(refused.status().message(), HasSubstr("--long"));
}

}  // namespace
}  // namespace colossus
