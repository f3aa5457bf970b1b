// For tests only: an S3 service of this process. It checks signatures, serves ranges, lists in pages, takes uploads in
// parts, and fails when told to.
#pragma once

#include <charconv>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "io/checksum.h"
#include "io/s3/s3_client.h"
#include "io/s3/sha256.h"
#include "io/s3/testing_http.h"
#include "io/s3/xml.h"

namespace colossus {

enum class FakeS3Fault {
  kNone,
  kError500,    // nothing is done
  kSlowDown,    // the same, as 503
  kDenied,      // the same, as 403
  kCutRequest,  // the connection ends without an answer; nothing is done
  kLostAnswer,  // it is done, and the connection ends without an answer
  kCutAnswer,   // it is done, and a part of the answer comes
  kStall,       // it is done, and no answer comes while the client waits
  kLateError,   // 200, with an error inside; nothing is done
};

struct FakeS3Request {
  std::string method;
  std::string bucket, key;                   // decoded
  std::map<std::string, std::string> query;  // decoded
  std::map<std::string, std::string> headers;
  int64_t number = 0;  // of all requests, from 0
};

class FakeS3 {
 public:
  static constexpr const char* kAccessKeyId = "AKIDTEST";
  static constexpr const char* kSecret = "secret/of+tests";
  static constexpr const char* kRegion = "test-region-1";
  // S3 wants parts of 5 MiB at least; this one wants less, to be quick.
  static constexpr int64_t kPartBytes = 50'000;

  FakeS3() : server_([this](const TestHttpRequest& request) { return serve(request); }) {}

  int port() const { return server_.port(); }
  std::string endpoint() const { return fmt::format("http://127.0.0.1:{}", port()); }
  // Of a client that retries quickly.
  S3Options options() const {
    return {.endpoint = endpoint(),
            .region = kRegion,
            .credentials = {kAccessKeyId, kSecret, session_token},
            .path_style = true,
            .deadline_seconds = 120,
            .first_wait_seconds = 0.001,
            .longest_wait_seconds = 0.01,
            .first_part_bytes = kPartBytes,
            .http = {}};
  }

  // Set before there are requests.
  int64_t page_size = 1000;
  std::string session_token;

  // Asked for every request, in any thread; one at a time.
  void inject(std::function<FakeS3Fault(const FakeS3Request&)> fault) {
    const std::lock_guard lock(mutex_);
    fault_ = std::move(fault);
  }
  std::map<std::string, std::string> objects() const {  // "bucket/key" → bytes
    const std::lock_guard lock(mutex_);
    return objects_;
  }
  void put(const std::string& path, const std::string& bytes) {
    const std::lock_guard lock(mutex_);
    objects_[path] = bytes;
  }
  int64_t num_open_uploads() const {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(uploads_.size());
  }
  std::vector<FakeS3Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  struct Upload {
    std::string path;
    std::map<int64_t, std::string> parts;
  };

  static std::string percent_decode(std::string_view text) {
    std::string decoded;
    for (size_t at = 0; at < text.size(); ++at) {
      int byte = 0;
      const bool escape = text[at] == '%' && at + 2 < text.size() &&
                          std::from_chars(text.data() + at + 1, text.data() + at + 3, byte, 16).ec == std::errc();
      decoded += escape ? static_cast<char>(byte) : text[at];
      if (escape) at += 2;
    }
    return decoded;
  }
  static std::string etag_of(const std::string& bytes) {
    return fmt::format("\"{}\"", fmt::format("{:032x}", checksum(bytes)));
  }
  static int64_t number_in(const std::string& text) { return std::strtoll(text.c_str(), nullptr, 10); }
  static std::string at(const std::map<std::string, std::string>& values, const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? "" : found->second;
  }
  static TestHttpAnswer error(int status, const char* code) {
    return {.status = status,
            .body = fmt::format(
                "<?xml version=\"1.0\"?><Error><Code>{}</Code><Message>as the test wants it</Message></Error>", code)};
  }

  TestHttpAnswer serve(const TestHttpRequest& http) {
    const std::lock_guard lock(mutex_);
    FakeS3Request request{
        .method = http.method, .headers = http.headers, .number = static_cast<int64_t>(requests_.size())};
    const char* const wrong = look_at(http, request);
    requests_.push_back(request);
    const FakeS3Fault fault = fault_ ? fault_(request) : FakeS3Fault::kNone;
    if (fault == FakeS3Fault::kCutRequest) return {.none = true};
    if (wrong != nullptr) return error(403, wrong);
    if (fault == FakeS3Fault::kError500) return error(500, "InternalError");
    if (fault == FakeS3Fault::kSlowDown) return error(503, "SlowDown");
    if (fault == FakeS3Fault::kDenied) return error(403, "AccessDenied");
    if (fault == FakeS3Fault::kLateError) return error(200, "InternalError");
    TestHttpAnswer answer = answer_to(request, http.body);
    answer.none = fault == FakeS3Fault::kLostAnswer;
    answer.cut = fault == FakeS3Fault::kCutAnswer;
    if (fault == FakeS3Fault::kStall) answer.wait_seconds = 5;
    return answer;
  }

  // Fills in bucket, key and query; null when the signature is right, else S3's code of what is wrong.
  const char* look_at(const TestHttpRequest& http, FakeS3Request& request) const {
    const size_t question = std::min(http.target.find('?'), http.target.size());
    const std::string path = percent_decode(http.target.substr(0, question));
    for (size_t from = question + 1; from < http.target.size();) {
      const size_t end = std::min(http.target.find('&', from), http.target.size());
      const std::string pair = http.target.substr(from, end - from);
      const size_t equals = std::min(pair.find('='), pair.size());
      request.query[percent_decode(pair.substr(0, equals))] =
          percent_decode(pair.substr(std::min(equals + 1, pair.size())));
      from = end + 1;
    }
    // "bucket.localhost:port" or, in path style, "127.0.0.1:port".
    const std::string host = at(http.headers, "host");
    if (const size_t dot = host.find(".localhost"); dot != std::string::npos) {
      request.bucket = host.substr(0, dot);
      request.key = path.substr(1);
    } else {
      const size_t slash = std::min(path.find('/', 1), path.size());
      request.bucket = path.substr(1, slash - 1);
      request.key = path.substr(std::min(slash + 1, path.size()));
    }
    const std::string authorization = at(http.headers, "authorization");
    const size_t names_at = authorization.find("SignedHeaders=");
    if (names_at == std::string::npos) return "AccessDenied";
    const std::string names = authorization.substr(names_at + 14, authorization.find(',', names_at) - names_at - 14);
    S3RequestToSign again{.method = http.method,
                          .path = path,
                          .query = {request.query.begin(), request.query.end()},
                          .headers = {},
                          .payload_hash = at(http.headers, "x-amz-content-sha256")};
    for (size_t from = 0; from < names.size();) {
      const size_t end = std::min(names.find(';', from), names.size());
      const std::string name = names.substr(from, end - from);
      again.headers[name] = at(http.headers, name);
      from = end + 1;
    }
    for (const char* needed : {"host", "x-amz-date", "x-amz-content-sha256"})
      if (!again.headers.contains(needed)) return "AccessDenied";
    if (at(again.headers, "x-amz-security-token") != session_token) return "InvalidToken";
    if (authorization != s3_authorization(again, {kAccessKeyId, kSecret, ""}, kRegion, at(http.headers, "x-amz-date")))
      return "SignatureDoesNotMatch";
    return again.payload_hash == to_hex(sha256(http.body)) ? nullptr : "XAmzContentSHA256Mismatch";
  }

  TestHttpAnswer answer_to(const FakeS3Request& request, const std::string& body) {
    if (request.bucket != "bucket") return error(404, "NoSuchBucket");
    if (request.query.contains("uploads") || request.query.contains("uploadId")) return upload(request, body);
    if (request.key.empty()) return list(request);
    const std::string path = request.bucket + "/" + request.key;
    if (request.method == "PUT") {
      objects_[path] = body;
      return {.headers = {"ETag: " + etag_of(body)}};
    }
    if (request.method == "DELETE") {
      objects_.erase(path);
      return {.status = 204};
    }
    const auto found = objects_.find(path);
    return found == objects_.end() ? error(404, "NoSuchKey") : get(request, found->second);
  }

  static TestHttpAnswer get(const FakeS3Request& request, const std::string& bytes) {
    const std::string match = at(request.headers, "if-match"), range = at(request.headers, "range");
    if (!match.empty() && match != etag_of(bytes)) return error(412, "PreconditionFailed");
    TestHttpAnswer answer{.headers = {"ETag: " + etag_of(bytes)}, .body = bytes};
    if (!range.empty()) {
      const auto first = static_cast<size_t>(number_in(range.substr(6)));  // "bytes="
      const auto last = static_cast<size_t>(number_in(range.substr(range.find('-') + 1)));
      if (first >= bytes.size()) return error(416, "InvalidRange");
      answer.status = 206;
      answer.body = bytes.substr(first, last - first + 1);
    }
    if (request.method == "HEAD") answer.length = static_cast<int64_t>(answer.body.size());
    return answer;
  }

  TestHttpAnswer list(const FakeS3Request& request) const {
    const std::string prefix = request.bucket + "/" + at(request.query, "prefix");
    const std::string delimiter = at(request.query, "delimiter"), after = at(request.query, "continuation-token");
    const std::string max_keys = at(request.query, "max-keys");
    const int64_t limit = max_keys.empty() ? page_size : std::min(page_size, number_in(max_keys));
    std::string contents, last;
    bool truncated = false;
    int64_t count = 0;
    for (const auto& [path, bytes] : objects_) {
      const size_t deeper = delimiter.empty() ? std::string::npos : path.find(delimiter, prefix.size());
      const std::string name = path.substr(0, deeper == std::string::npos ? deeper : deeper + 1);
      if (!path.starts_with(prefix) || name == last || (!after.empty() && name <= after)) continue;
      if (count == limit) {
        truncated = true;
        break;
      }
      last = name;
      ++count;
      const std::string key = xml_encode(name.substr(request.bucket.size() + 1));
      contents += deeper != std::string::npos
                      ? fmt::format("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", key)
                      : fmt::format("<Contents><Key>{}</Key><Size>{}</Size></Contents>", key, bytes.size());
    }
    if (truncated) contents += fmt::format("<NextContinuationToken>{}</NextContinuationToken>", xml_encode(last));
    return {.body = fmt::format(
                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                "<KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>{}</ListBucketResult>",
                count, truncated, contents)};
  }

  TestHttpAnswer upload(const FakeS3Request& request, const std::string& body) {
    if (request.query.contains("uploads")) {
      const std::string id = fmt::format("upload-{}+/=", next_upload_++);
      uploads_[id] = {.path = request.bucket + "/" + request.key, .parts = {}};
      return {.body = fmt::format(
                  "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>", id)};
    }
    const auto found = uploads_.find(at(request.query, "uploadId"));
    if (found == uploads_.end() || found->second.path != request.bucket + "/" + request.key)
      return error(404, "NoSuchUpload");
    std::map<int64_t, std::string>& parts = found->second.parts;
    if (request.method == "DELETE") {
      uploads_.erase(found);
      return {.status = 204};
    }
    if (request.method == "PUT") {
      parts[number_in(at(request.query, "partNumber"))] = body;
      return {.headers = {"ETag: " + etag_of(body)}};
    }
    std::string whole;
    const auto named = xml_elements(body, "Part");
    for (size_t i = 0; i < named.size(); ++i) {
      const std::string& part = parts[number_in(*xml_text(named[i], "PartNumber"))];
      if (xml_text(named[i], "ETag") != etag_of(part)) return error(400, "InvalidPart");
      if (i + 1 < named.size() && part.size() < static_cast<size_t>(kPartBytes)) return error(400, "EntityTooSmall");
      whole += part;
    }
    objects_[found->second.path] = std::move(whole);
    uploads_.erase(found);
    return {.body = "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"};
  }

  mutable std::mutex mutex_;
  std::map<std::string, std::string> objects_;
  std::map<std::string, Upload> uploads_;
  std::function<FakeS3Fault(const FakeS3Request&)> fault_;
  std::vector<FakeS3Request> requests_;
  int64_t next_upload_ = 1;
  TestHttpServer server_;  // last: it stops before the rest goes
};

}  // namespace colossus
