#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/faulty_files.h"
#include "io/safetensors_header.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> pattern(size_t count, int seed) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::byte>(i * 31 + static_cast<size_t>(seed) * 7 + i / 256);
  return bytes;
}

const std::vector<SafetensorsSpec> kSpecs = {
    {"embedding", "BF16", {7, 5}}, {"empty", "F32", {0, 3}}, {"scalar", "F64", {}}, {"big", "U8", {3000001}}};

// In pieces of odd sizes, so that tensors and pieces never meet.
Status write_all(FileSystem& files, const std::string& path, std::string* all = nullptr) {
  ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::create(files, path, kSpecs, {{"format", "pt"}, {"step", "12"}}));
  const std::vector<std::byte> bytes = pattern(70 + 8 + 3000001, 1);
  for (size_t at = 0, size = 11; at < bytes.size(); at += size, size = size * 3 % 1500007 + 1) {
    RETURN_IF_ERROR(writer.append(std::span(bytes).subspan(at, std::min(size, bytes.size() - at))));
  }
  if (all != nullptr) all->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  RETURN_IF_ERROR(writer.finish());
  ASSIGN_OR_RETURN(const FileEntry entry, local_files().stat(path));
  CHECK(entry.size_bytes == writer.file_bytes());
  return ok_status();
}

TEST(Safetensors, RoundTrip) {
  const TemporaryDirectory directory;
  std::string all;
  const Status written = write_all(local_files(), directory / "m.safetensors", &all);
  ASSERT_TRUE(written.ok()) << written.message();
  const auto file = SafetensorsFile::open(local_files(), directory / "m.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->metadata().at("step"), "12");
  ASSERT_EQ(file->tensors().size(), 4u);
  size_t at = 0;
  for (size_t i = 0; i < kSpecs.size(); ++i) {
    const SafetensorsEntry* tensor = file->find(kSpecs[i].name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, kSpecs[i].dtype);
    EXPECT_EQ(tensor->shape, kSpecs[i].shape);
    std::string bytes(static_cast<size_t>(tensor->size_bytes), '\0');
    ASSERT_TRUE(file->read(*tensor, 0, std::as_writable_bytes(std::span(bytes))).ok());
    EXPECT_EQ(bytes, all.substr(at, bytes.size()));
    at += bytes.size();
  }
  std::array<std::byte, 3> part;
  ASSERT_TRUE(file->read(*file->find("scalar"), 5, part).ok());
  EXPECT_EQ(std::to_integer<uint8_t>(part[2]), static_cast<uint8_t>(all[77]));
  EXPECT_EQ(file->find("nobody"), nullptr);
  EXPECT_EQ(file->tensors()[0].offset % 8, 0);
}

TEST(Safetensors, WriterRefusesWrongAmountsAndNames) {
  const TemporaryDirectory directory;
  FileSystem& files = local_files();
  const std::string path = directory / "x";
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"a", "F32", {1}}, {"a", "F32", {1}}}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"a", "F33", {1}}}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"a", "F32", {-1}}}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"a", "F32", {INT64_MAX, 2}}}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"\xff", "F32", {1}}}).ok());
  EXPECT_FALSE(SafetensorsWriter::create(files, path, {{"__metadata__", "F32", {1}}}).ok());
  auto writer = SafetensorsWriter::create(files, path, {{"a", "F32", {2}}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->append(pattern(7, 0)).ok());
  EXPECT_THAT(writer->finish().message(), HasSubstr("7 of its 8 bytes"));
  EXPECT_FALSE(writer->append(pattern(2, 0)).ok());
}

struct BrokenHeader {
  const char* name;
  const char* json;
  const char* message;
};

void PrintTo(const BrokenHeader& broken, std::ostream* out) { *out << broken.name; }

class SafetensorsBroken : public ::testing::TestWithParam<BrokenHeader> {};

TEST_P(SafetensorsBroken, IsRefusedWithTheReason) {
  const auto header = parse_safetensors_header(GetParam().json, 8);
  ASSERT_FALSE(header.ok());
  EXPECT_THAT(header.status().message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Headers, SafetensorsBroken,
    ::testing::Values(
        BrokenHeader{"not_json", R"({"a":)", "not JSON"}, BrokenHeader{"no_brace", R"([1])", "does not begin with {"},
        BrokenHeader{"trailing", R"({} {})", "not JSON"},
        BrokenHeader{"name_twice", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                                       "a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     "twice"},
        BrokenHeader{"field_twice", R"({"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}})", "twice"},
        BrokenHeader{"overlap", R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},
                                    "b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     "inside of"},
        BrokenHeader{"gap", R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
                                "b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     "gap"},
        BrokenHeader{"beyond", R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", "only 8"},
        BrokenHeader{"rest", R"({"a":{"dtype":"U8","shape":[7],"data_offsets":[0,7]}})", "belong to none"},
        BrokenHeader{"reversed", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})", "span -8"},
        BrokenHeader{"size", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "needs 12 bytes"},
        BrokenHeader{"overflow", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
                     "more elements"},
        BrokenHeader{"huge_number", R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,8]}})",
                     "whole numbers from 0"},
        BrokenHeader{"negative", R"({"a":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}})",
                     "-8 behind the key \"shape\""},
        BrokenHeader{"fraction", R"({"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}})",
                     "8.0 behind the key \"shape\""},
        BrokenHeader{"dtype", R"({"a":{"dtype":"Q4","shape":[8],"data_offsets":[0,8]}})", "Q4"},
        BrokenHeader{"dtype_number", R"({"a":{"dtype":4,"shape":[8],"data_offsets":[0,8]}})",
                     "4 behind the key \"dtype\", where the format has a string"},
        BrokenHeader{"missing", R"({"a":{"dtype":"U8","shape":[8]}})", "lacks"},
        BrokenHeader{"unknown", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}})", "unknown field"},
        BrokenHeader{"three_offsets", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}})", "not 2"},
        BrokenHeader{"deep", R"({"a":{"dtype":"U8","shape":[[8]],"data_offsets":[0,8]}})", "a list"},
        BrokenHeader{"metadata_number", R"({"__metadata__":{"a":1}})", "1 behind the key \"a\""},
        BrokenHeader{"metadata_twice", R"({"__metadata__":{"a":"1","a":"2"}})", "twice"},
        BrokenHeader{"tensor_string", R"({"a":"U8"})", "an object with dtype"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Safetensors, CutOrAlteredFilesAreRefused) {
  const TemporaryDirectory directory;
  const std::string path = directory / "m.safetensors";
  ASSERT_TRUE(write_all(local_files(), path).ok());
  const std::string good = *read_file(local_files(), path);
  const auto open_as = [&](const std::string& bytes) {
    CHECK(write_file_atomically(local_files(), path, bytes).ok());
    return SafetensorsFile::open(local_files(), path).status();
  };
  EXPECT_TRUE(open_as(good).ok());
  for (const size_t size : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, good.size() - 1}) {
    const Status cut = open_as(good.substr(0, size));
    ASSERT_FALSE(cut.ok()) << size;
    EXPECT_THAT(cut.message(), HasSubstr(path));
  }
  EXPECT_FALSE(open_as(good + "x").ok());
  std::string huge = good;
  for (size_t i = 0; i < 8; ++i) huge[i] = '\xff';  // a header of 2^64-1 bytes: refused before memory is taken
  EXPECT_THAT(open_as(huge).message(), HasSubstr("more than the format's"));
  std::string cut_header = good;
  cut_header[3] = 1;  // 16 MiB of header in a file of 3 MB
  EXPECT_EQ(open_as(cut_header).code(), ErrorCode::kCorrupt);
}

// Every single byte of a header changed to a few others: an error or a valid file, never a crash (see the sanitizers).
TEST(Safetensors, AlteredHeadersNeverCrash) {
  const std::string json = R"({"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}})";
  ASSERT_TRUE(parse_safetensors_header(json, 8).ok());
  for (size_t at = 0; at < json.size(); ++at) {
    for (const char byte : {'\0', '"', '{', '}', '[', '9', '-', ',', '\xff'}) {
      std::string altered = json;
      altered[at] = byte;
      const auto header = parse_safetensors_header(altered, 8);
      EXPECT_TRUE(!header.ok() || header->tensors.size() <= 1);
    }
  }
}

TEST(Safetensors, FaultsAtEveryOperationAreReported) {
  const TemporaryDirectory directory;
  FaultyFiles files(local_files());
  ASSERT_TRUE(write_all(files, directory / "m").ok());
  const int64_t operations = files.operations();
  EXPECT_GE(operations, 6);
  for (const Fault fault : {Fault::kError, Fault::kDiskFull, Fault::kShortWrite, Fault::kKilled}) {
    for (int64_t k = 0; k < operations; ++k) {
      files.arm(k, fault);
      const bool close_needs_no_space =
          k == operations - 1 && (fault == Fault::kDiskFull || fault == Fault::kShortWrite);
      EXPECT_EQ(write_all(files, directory / "m").ok(), close_needs_no_space) << "operation " << k;
    }
  }
}

}  // namespace
}  // namespace colossus
