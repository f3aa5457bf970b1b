// Objects of one S3 service (Amazon's, MinIO, Ceph, ...): whole requests, signed, repeated while that can help. A call
// that fails says which object, what was answered and what to do. Any number of threads.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/s3/http.h"
#include "io/s3/signature.h"

namespace colossus {

struct S3Options {
  std::string endpoint;  // "https://host:port"; "": Amazon's of the region
  std::string region = "us-east-1";
  S3Credentials credentials;
  // The bucket in the path ("endpoint/bucket/key") rather than in the host's name ("bucket.endpoint/key").
  bool path_style = false;
  // Of one call, with all its attempts: it may wait in between, and begins none after it.
  double deadline_seconds = 300;
  double first_wait_seconds = 0.2;  // before the second attempt at most; doubled from one to the next
  double longest_wait_seconds = 20;
  // Of the first part of a file that goes up in parts; S3 wants 5 MiB at least, of all but the last.
  int64_t first_part_bytes = int64_t{16} << 20;
  HttpLimits http = {};
};

// From AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION (or AWS_DEFAULT_REGION) and
// AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3). COLOSSUS_S3_STYLE is "path" or "virtual"; without it an endpoint that was
// given gets paths, Amazon's names. kInvalid says what is missing.
Result<S3Options> s3_options_from_environment();

struct S3Object {
  std::string bucket;
  std::string key;  // "" of a bucket itself
};
// "s3://bucket/some/key". Slashes at the end, and doubled ones, are dropped, as in paths of files.
Result<S3Object> parse_s3_path(std::string_view path);
bool is_s3_path(std::string_view path);

struct S3ObjectState {
  int64_t num_bytes = 0;
  std::string etag;  // another one: another content
};

struct S3Listing {
  struct Object {
    std::string key;
    int64_t num_bytes = 0;
  };
  std::vector<Object> objects;
  std::vector<std::string> prefixes;  // "directories", each with a '/' at its end
};

// What is done about an answer. Pure; the client waits and asks.
bool is_worth_repeating(int http_status, std::string_view s3_code);
// "Full jitter" (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015): `random` / 2^32 of a span
// that doubles with each attempt, counted from 1.
double retry_wait_seconds(const S3Options& options, int attempt, uint32_t random);

class S3Client {
 public:
  explicit S3Client(S3Options options) : options_(std::move(options)) {}
  const S3Options& options() const { return options_; }

  // kNotFound when there is none.
  Result<S3ObjectState> head(const S3Object& object);
  // Fills `into` from the object's byte `offset` on; all of it must lie inside. An object that is not of this etag any
  // more is kUnavailable.
  Status get(const S3Object& object, int64_t offset, std::span<std::byte> into, const std::string& etag);
  // Readers see the old object or the new one.
  Status put(const S3Object& object, std::span<const std::byte> bytes);
  Status remove(const S3Object& object);  // of nothing: ok
  // Everything under a prefix; with "/" as delimiter what lies deeper shows as prefixes. At most `max_keys`, if not 0.
  Result<S3Listing> list(const S3Object& prefix, const std::string& delimiter, int64_t max_keys = 0);

  // In parts of at least 5 MiB but for the last, at most 10,000; nothing is seen of it until it is complete.
  Result<std::string> begin_upload(const S3Object& object);
  Result<std::string> put_part(const S3Object& object, const std::string& upload_id, int number,
                               std::span<const std::byte> bytes);  // its etag; numbers begin with 1
  Status complete_upload(const S3Object& object, const std::string& upload_id, const std::vector<std::string>& etags,
                         int64_t num_bytes);
  Status abort_upload(const S3Object& object, const std::string& upload_id);

  int64_t num_repeated() const { return num_repeated_; }  // attempts after the first, of all calls

 private:
  struct Request {
    std::string method;
    S3Query query = {};
    std::vector<std::pair<std::string, std::string>> headers = {};  // names in lower case
    std::span<const std::byte> body = {};
    std::span<std::byte> into = {};
    // Of an answer of 2xx; where it is not there, the answer was cut within its headers.
    const char* needed_header = nullptr;
    // An answer of 200 may still carry an error; then it is one. And the second time it is asked for what was done.
    bool completes = false;
  };
  struct Answer {
    HttpResponse response;
    std::string code;     // of S3's error: "NoSuchKey"
    std::string message;  // of S3's error
    int num_attempts = 1;
    bool ok() const { return response.status / 100 == 2 && code.empty(); }
  };

  HttpRequest sign(const S3Object& object, const Request& request) const;
  Answer call(const S3Object& object, const Request& request);
  Status error_of(const S3Object& object, const Request& request, const Answer& answer) const;
  Status done(const S3Object& object, const Request& request);

  const S3Options options_;
  HttpClient http_;
  std::atomic<int64_t> num_repeated_ = 0;
  std::atomic<uint64_t> num_waits_ = 0;
};

}  // namespace colossus
