#include "io/s3/s3_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/rng.h"
#include "io/s3/testing.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

constexpr int64_t kPart = FakeS3::kPartBytes;

std::string random_text(int64_t num_bytes, uint64_t seed = 1) {
  std::string text(static_cast<size_t>(num_bytes), '\0');
  for (size_t i = 0; i < text.size(); i += 4) {
    const uint32_t bits = random_bits({.seed = seed}, i);
    std::memcpy(text.data() + i, &bits, std::min<size_t>(4, text.size() - i));
  }
  return text;
}

Status write(FileSystem& files, const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(const auto writer, files.create(path));
  // In pieces that fit no part.
  for (size_t at = 0; at < text.size(); at += 7'001)
    RETURN_IF_ERROR(
        writer->append(std::as_bytes(std::span(text).subspan(at, std::min<size_t>(7'001, text.size() - at)))));
  RETURN_IF_ERROR(writer->sync());
  return writer->close();
}

class S3 : public testing::Test {
 protected:
  S3() : files_(make_s3_files(service_.options())) {}
  std::string object(const std::string& key) const {
    const auto objects = service_.objects();
    const auto found = objects.find("bucket/" + key);
    return found == objects.end() ? "(none)" : found->second;
  }

  FakeS3 service_;
  std::unique_ptr<FileSystem> files_;
};

TEST_F(S3, FilesAreWrittenReadListedAndRemoved) {
  EXPECT_FALSE(files_->can_rename("s3://bucket/a"));
  ASSERT_TRUE(write(*files_, "s3://bucket/run/a b+c.txt", "hello").ok());
  ASSERT_TRUE(write(*files_, "s3://bucket/run//deep/<&>.txt", "").ok());
  EXPECT_EQ(object("run/a b+c.txt"), "hello");
  EXPECT_EQ(*read_file(*files_, "s3://bucket/run/a b+c.txt"), "hello");
  EXPECT_EQ(*read_file(*files_, "s3://bucket/run/deep/<&>.txt"), "");
  const auto reader = files_->open("s3://bucket/run/a b+c.txt");
  ASSERT_TRUE(reader.ok());
  std::array<std::byte, 3> into;
  EXPECT_EQ(*(*reader)->read_at(3, into), 2);  // up to the end
  EXPECT_EQ(into[1], std::byte{'o'});
  EXPECT_EQ(*(*reader)->read_at(7, into), 0);

  const auto listed = files_->list("s3://bucket/run/");
  ASSERT_TRUE(listed.ok()) << listed.status().message();
  ASSERT_THAT(*listed, SizeIs(2));
  EXPECT_EQ((*listed)[0].name, "a b+c.txt");
  EXPECT_EQ((*listed)[0].size_bytes, 5);
  EXPECT_EQ((*listed)[1].name, "deep");
  EXPECT_TRUE((*listed)[1].is_directory);
  EXPECT_EQ(files_->stat("s3://bucket/run/a b+c.txt")->size_bytes, 5);
  EXPECT_TRUE(files_->stat("s3://bucket/run")->is_directory);
  EXPECT_EQ(files_->stat("s3://bucket/ru").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(files_->list("s3://bucket/none").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(files_->open("s3://bucket/none").status().code(), ErrorCode::kNotFound);
  EXPECT_FALSE(files_->rename("s3://bucket/run", "s3://bucket/walk").ok());
  EXPECT_FALSE(files_->open_to_append("s3://bucket/run/log").ok());

  ASSERT_TRUE(write(*files_, "s3://bucket/running", "stays").ok());
  ASSERT_TRUE(files_->remove_all("s3://bucket/run").ok());
  ASSERT_TRUE(files_->remove_all("s3://bucket/run").ok());
  EXPECT_THAT(service_.objects(), SizeIs(1));
}

TEST_F(S3, LongListsComeInPages) {
  service_.page_size = 3;
  for (int i = 0; i < 20; ++i) service_.put(fmt::format("bucket/dir/{:02}/x&y", i % 10) + std::to_string(i), "1");
  const auto listed = files_->list("s3://bucket/dir");
  ASSERT_TRUE(listed.ok());
  ASSERT_THAT(*listed, SizeIs(10));
  EXPECT_EQ(listed->back().name, "09");
  EXPECT_THAT(service_.requests(), SizeIs(4));
  ASSERT_TRUE(files_->remove_all("s3://bucket/dir").ok());
  EXPECT_THAT(service_.objects(), SizeIs(0));
}

TEST_F(S3, LargeFilesGoUpInParts) {
  for (const int64_t size : {kPart - 1, kPart, kPart + 1, 2 * kPart, 5 * kPart + 5'000}) {
    const std::string text = random_text(size);
    ASSERT_TRUE(write(*files_, "s3://bucket/large", text).ok());
    EXPECT_TRUE(object("large") == text) << size;
    EXPECT_TRUE(*read_file(*files_, "s3://bucket/large") == text) << size;
  }
  EXPECT_EQ(service_.num_open_uploads(), 0);
  // 10,000 parts hold what an object may, and none is larger than a part may be.
  int64_t sum = 0;
  for (size_t i = 0; i < 10'000; ++i) {
    const int64_t bytes = s3_part_bytes(S3Options{}.first_part_bytes, i);
    sum += bytes;
    EXPECT_TRUE(bytes >= int64_t{5} << 20 && bytes <= int64_t{5} << 30) << i;
  }
  EXPECT_GE(sum, int64_t{5} << 40);
}

TEST_F(S3, WhatIsNotClosedIsNotThere) {
  const std::string text = random_text(kPart + 1);
  ASSERT_TRUE(write(*files_, "s3://bucket/file", "old").ok());
  {
    const auto writer = files_->create("s3://bucket/file");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->append(std::as_bytes(std::span(text))).ok());
    ASSERT_TRUE((*writer)->sync().ok());
    EXPECT_EQ(service_.num_open_uploads(), 1);
    EXPECT_EQ(object("file"), "old");
  }
  EXPECT_EQ(service_.num_open_uploads(), 0);  // nothing is paid for
  EXPECT_EQ(object("file"), "old");
}

// Every request of an upload in parts and of reading it back, each with every fault once: it goes on as if nothing was.
TEST_F(S3, FaultsThatPassAreGotOver) {
  const std::string text = random_text(2 * kPart + 100);
  const auto work = [&] {
    RETURN_IF_ERROR(write(*files_, "s3://bucket/dir/large", text));
    RETURN_IF_ERROR(write(*files_, "s3://bucket/dir/small", "small"));
    ASSIGN_OR_RETURN(const auto listed, files_->list("s3://bucket/dir"));
    if (listed.size() != 2) return corrupt("the list is not whole");
    ASSIGN_OR_RETURN(const auto reader, files_->open("s3://bucket/dir/large"));
    std::vector<std::byte> tail(1000);
    RETURN_IF_ERROR(read_exactly(*reader, 2 * kPart - 900, tail));
    if (std::memcmp(tail.data(), text.data() + 2 * kPart - 900, 1000) != 0) return corrupt("other bytes came");
    return files_->remove_all("s3://bucket/dir/small");
  };
  ASSERT_TRUE(work().ok());
  const auto num_requests = static_cast<int64_t>(service_.requests().size());
  ASSERT_GT(num_requests, 10);
  for (const FakeS3Fault fault : {FakeS3Fault::kError500, FakeS3Fault::kSlowDown, FakeS3Fault::kCutRequest,
                                  FakeS3Fault::kLostAnswer, FakeS3Fault::kCutAnswer}) {
    for (int64_t at = 0; at < num_requests; ++at) {
      const auto begin = static_cast<int64_t>(service_.requests().size());
      service_.inject(
          [&](const FakeS3Request& request) { return request.number == begin + at ? fault : FakeS3Fault::kNone; });
      const Status status = work();
      ASSERT_TRUE(status.ok()) << "fault " << static_cast<int>(fault) << " at " << at << ": " << status.message();
      ASSERT_TRUE(object("dir/large") == text);
    }
  }
}

TEST_F(S3, AnAnswerThatDoesNotComeIsAskedForAgain) {
  service_.put("bucket/file", "hello");
  S3Options options = service_.options();
  options.http.stall_seconds = 1;
  files_ = make_s3_files(options);
  service_.inject(
      [](const FakeS3Request& request) { return request.number == 0 ? FakeS3Fault::kStall : FakeS3Fault::kNone; });
  EXPECT_EQ(*read_file(*files_, "s3://bucket/file"), "hello");
  EXPECT_THAT(service_.requests(), SizeIs(3));
}

TEST_F(S3, AnErrorInsideOfASuccessIsAnError) {
  const std::string text = random_text(kPart + 1);
  int times = 0;
  service_.inject([&](const FakeS3Request& request) {
    const bool completes = request.method == "POST" && request.query.contains("uploadId");
    return completes && times++ < 2 ? FakeS3Fault::kLateError : FakeS3Fault::kNone;
  });
  EXPECT_TRUE(write(*files_, "s3://bucket/large", text).ok());
  EXPECT_EQ(times, 3);
  EXPECT_TRUE(object("large") == text);
}

TEST_F(S3, FaultsThatStayAreErrorsAndLeaveTheOldFile) {
  S3Options options = service_.options();
  options.deadline_seconds = 0.2;
  files_ = make_s3_files(options);
  service_.put("bucket/large", "old");
  const std::string text = random_text(kPart + 1);
  for (const auto& [fault, words] :
       {std::pair(FakeS3Fault::kError500, "500 InternalError"), std::pair(FakeS3Fault::kSlowDown, "503 SlowDown"),
        std::pair(FakeS3Fault::kDenied, "403 AccessDenied (as the test wants it)"),
        std::pair(FakeS3Fault::kCutRequest, "got no answer")}) {
    for (const char* failing : {"begin", "part", "complete"}) {
      service_.inject([&, fault = fault](const FakeS3Request& request) {
        const bool begins = request.query.contains("uploads"), parts = request.query.contains("partNumber");
        const bool completes = request.method == "POST" && request.query.contains("uploadId");
        const std::string_view wanted = failing;
        return (wanted == "begin" && begins) || (wanted == "part" && parts) || (wanted == "complete" && completes)
                   ? fault
                   : FakeS3Fault::kNone;
      });
      const Status status = write(*files_, "s3://bucket/large", text);
      ASSERT_FALSE(status.ok());
      EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
      EXPECT_THAT(status.message(), AllOf(HasSubstr("[s3://bucket/large] P"), HasSubstr(words)));
      EXPECT_EQ(status.message().find("attempts") == std::string::npos, fault == FakeS3Fault::kDenied)
          << status.message();
      EXPECT_EQ(object("large"), "old");
      EXPECT_EQ(service_.num_open_uploads(), 0) << failing;
    }
  }
}

TEST_F(S3, AFileThatIsReplacedWhileItIsReadIsNoMix) {
  service_.put("bucket/file", "old old old");
  const auto reader = files_->open("s3://bucket/file");
  ASSERT_TRUE(reader.ok());
  service_.put("bucket/file", "new new new");
  std::array<std::byte, 3> into;
  const auto read = (*reader)->read_at(4, into);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.status().message(), HasSubstr("was replaced while it was read"));
}

TEST_F(S3, MessagesSayWhatToDo) {
  EXPECT_THAT(files_->open("s3://other/file").status().message(), HasSubstr("404"));
  EXPECT_THAT(files_->list("s3://other/dir").status().message(),
              AllOf(HasSubstr("NoSuchBucket"), HasSubstr("make the bucket")));
  S3Options wrong = service_.options();
  wrong.credentials.secret_access_key = "another";
  const Status refused = write(*make_s3_files(wrong), "s3://bucket/file", "x");
  EXPECT_EQ(refused.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("SignatureDoesNotMatch"), HasSubstr("correct AWS_ACCESS_KEY_ID"),
                                       Not(HasSubstr("another")), Not(HasSubstr(FakeS3::kSecret))));
  S3Options nowhere = service_.options();
  nowhere.endpoint = "http://127.0.0.1:1";
  nowhere.deadline_seconds = 0.05;
  EXPECT_THAT(write(*make_s3_files(nowhere), "s3://bucket/file", "x").message(), HasSubstr("AWS_ENDPOINT_URL"));
}

TEST_F(S3, SessionTokensAndVirtualHostsAreUsed) {
  service_.session_token = "a token==";
  S3Options options = service_.options();
  options.path_style = false;
  options.endpoint = fmt::format("http://localhost:{}", service_.port());
  const auto files = make_s3_files(options);
  const Status written = write(*files, "s3://bucket/dir/file", "hello");
  ASSERT_TRUE(written.ok()) << written.message();
  EXPECT_EQ(object("dir/file"), "hello");
  EXPECT_THAT(*files->list("s3://bucket/dir"), SizeIs(1));
  EXPECT_FALSE(write(*files_, "s3://bucket/dir/file", "x").ok());  // without the token
}

TEST(S3Path, IsParsed) {
  const auto parsed = [](const char* path) {
    const auto object = parse_s3_path(path);
    return object.ok() ? object->bucket + "|" + object->key : "wrong";
  };
  EXPECT_EQ(parsed("s3://bucket/a/b"), "bucket|a/b");
  EXPECT_EQ(parsed("s3://bucket//a///b/"), "bucket|a/b");
  EXPECT_EQ(parsed("s3://bucket"), "bucket|");
  for (const char* path :
       {"", "s3://", "s3:///a", "s3://b/x", "/a/b", "s3://bu cket/a", "s3://bucket/../a", "s3://u:p@host/a"})
    EXPECT_EQ(parsed(path), "wrong") << path;
}

TEST(S3Retry, WaitsLongerAndLonger) {
  const S3Options options{.first_wait_seconds = 0.5, .longest_wait_seconds = 5};
  EXPECT_EQ(retry_wait_seconds(options, 1, 0), 0);
  EXPECT_DOUBLE_EQ(retry_wait_seconds(options, 1, 1u << 31), 0.25);
  EXPECT_DOUBLE_EQ(retry_wait_seconds(options, 3, 1u << 31), 1);
  EXPECT_DOUBLE_EQ(retry_wait_seconds(options, 100, 1u << 31), 2.5);
  for (const int status : {0, 408, 429, 500, 502, 503, 504}) EXPECT_TRUE(is_worth_repeating(status, "")) << status;
  for (const int status : {301, 400, 403, 404, 412, 501}) EXPECT_FALSE(is_worth_repeating(status, "")) << status;
  EXPECT_TRUE(is_worth_repeating(200, "InternalError"));
  EXPECT_TRUE(is_worth_repeating(400, "RequestTimeout"));
}

TEST(S3Environment, IsRead) {
  for (const char* name : {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION",
                           "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "COLOSSUS_S3_STYLE"})
    unsetenv(name);
  EXPECT_THAT(s3_options_from_environment().status().message(), HasSubstr("AWS_ACCESS_KEY_ID"));
  setenv("AWS_ACCESS_KEY_ID", "a", 1);
  setenv("AWS_SECRET_ACCESS_KEY", "b", 1);
  auto options = s3_options_from_environment();
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->region, "us-east-1");
  EXPECT_FALSE(options->path_style);
  setenv("AWS_ENDPOINT_URL", "https://minio:9000/", 1);
  setenv("AWS_REGION", "eu-central-1", 1);
  options = s3_options_from_environment();
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->endpoint, "https://minio:9000");
  EXPECT_EQ(options->region, "eu-central-1");
  EXPECT_TRUE(options->path_style);
  setenv("COLOSSUS_S3_STYLE", "virtual", 1);
  EXPECT_FALSE(s3_options_from_environment()->path_style);
  setenv("COLOSSUS_S3_STYLE", "host", 1);
  EXPECT_FALSE(s3_options_from_environment().ok());
  unsetenv("COLOSSUS_S3_STYLE");
  setenv("AWS_ENDPOINT_URL", "minio:9000", 1);
  EXPECT_FALSE(s3_options_from_environment().ok());
}

TEST(Xml, ElementsAndEntities) {
  const std::string xml =
      "<R xmlns=\"u\"><KeyCount>2</KeyCount><C><Key>a&amp;b&#233;&#x20ac;&bad;&#xd;</Key></C><C/><C></C></R>";
  EXPECT_THAT(xml_elements(xml, "C"), ElementsAre("<Key>a&amp;b&#233;&#x20ac;&bad;&#xd;</Key>", "", ""));
  EXPECT_EQ(xml_text(xml, "Key"), "a&b\xc3\xa9\xe2\x82\xac&bad;\r");
  EXPECT_EQ(xml_text(xml, "None"), std::nullopt);
  EXPECT_EQ(xml_decode(xml_encode("<a&\"'>")), "<a&\"'>");
  for (const char* broken : {"<C", "<C>", "<C><", "</C>", "<C a", "<C>&#", "<"})
    EXPECT_THAT(xml_elements(broken, "C"), SizeIs(0));
}

}  // namespace
}  // namespace colossus
