#include "io/s3/s3_client.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/clock.h"
#include "base/rng.h"
#include "io/s3/sha256.h"
#include "io/s3/xml.h"

namespace colossus {
namespace {

constexpr std::string_view kScheme = "s3://";
constexpr int kForbidden = 403, kNotFoundStatus = 404, kTimeout = 408, kConflict = 409, kPreconditionFailed = 412,
              kTooManyRequests = 429, kPartialContent = 206;

std::string environment(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

std::string now_as_amz_date() {
  const time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  return text.data();
}

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string path_text(const S3Object& object) { return fmt::format("{}{}/{}", kScheme, object.bucket, object.key); }

// What a person can do about it.
const char* advice(int status, std::string_view code) {
  if (code == "NoSuchBucket") return "make the bucket, or correct its name and AWS_ENDPOINT_URL";
  if (code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch")
    return "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
  if (code == "ExpiredToken" || code == "InvalidToken") return "renew AWS_SESSION_TOKEN";
  if (code == "RequestTimeTooSkewed") return "set this machine's clock";
  if (code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || status == 301 || status == 307)
    return "set AWS_REGION to the bucket's region";
  if (status == kForbidden) return "allow it in the bucket's policy, or use other keys";
  if (status == 0) return "is AWS_ENDPOINT_URL right, and can this machine reach it?";
  if (status >= 500 || status == kTooManyRequests) return "try again later";
  return "";
}

}  // namespace

Result<S3Options> s3_options_from_environment() {
  S3Options options{.endpoint = environment("AWS_ENDPOINT_URL_S3", environment("AWS_ENDPOINT_URL").c_str()),
                    .region = environment("AWS_REGION", environment("AWS_DEFAULT_REGION", "us-east-1").c_str()),
                    .credentials = {.access_key_id = environment("AWS_ACCESS_KEY_ID"),
                                    .secret_access_key = environment("AWS_SECRET_ACCESS_KEY"),
                                    .session_token = environment("AWS_SESSION_TOKEN")}};
  if (options.credentials.access_key_id.empty() || options.credentials.secret_access_key.empty())
    return invalid("s3:// paths need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment");
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  if (!options.endpoint.empty() && !options.endpoint.starts_with("http://") &&
      !options.endpoint.starts_with("https://"))
    return invalid(fmt::format("[AWS_ENDPOINT_URL] {} does not begin with http:// or https://", options.endpoint));
  const std::string style = environment("COLOSSUS_S3_STYLE", options.endpoint.empty() ? "virtual" : "path");
  if (style != "path" && style != "virtual")
    return invalid(fmt::format("[COLOSSUS_S3_STYLE] {}; give path or virtual", style));
  options.path_style = style == "path";
  return options;
}

bool is_s3_path(std::string_view path) { return path.starts_with(kScheme); }

Result<S3Object> parse_s3_path(std::string_view path) {
  if (!is_s3_path(path)) return invalid(fmt::format("[{}] is no path of an object: s3://bucket/key", path));
  std::string_view rest = path.substr(kScheme.size());
  S3Object object{.bucket = std::string(rest.substr(0, rest.find('/'))), .key = ""};
  for (rest.remove_prefix(object.bucket.size()); !rest.empty();) {
    rest.remove_prefix(std::min(rest.find_first_not_of('/'), rest.size()));
    const std::string_view part = rest.substr(0, rest.find('/'));
    if (part == "." || part == "..")
      return invalid(fmt::format("[{}] has a part \"{}\": objects have no such", path, part));
    if (!part.empty()) object.key += (object.key.empty() ? "" : "/") + std::string(part);
    rest.remove_prefix(part.size());
  }
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
           (c >= 'A' && c <= 'Z');
  };
  if (object.bucket.size() < 3 || !std::all_of(object.bucket.begin(), object.bucket.end(), allowed))
    return invalid(
        fmt::format("[{}] has no proper bucket: s3://bucket/key, the bucket of letters, digits, '.' and '-'", path));
  return object;
}

bool is_worth_repeating(int http_status, std::string_view s3_code) {
  if (s3_code == "SlowDown" || s3_code == "InternalError" || s3_code == "RequestTimeout" ||
      s3_code == "ServiceUnavailable")
    return true;
  if (http_status == 501 || http_status == 505) return false;  // not implemented
  return http_status == 0 || http_status >= 500 || http_status == kTooManyRequests || http_status == kTimeout;
}

double retry_wait_seconds(const S3Options& options, int attempt, uint32_t random) {
  double span = options.first_wait_seconds;
  for (int i = 1; i < attempt && span < options.longest_wait_seconds; ++i) span *= 2;
  return std::min(span, options.longest_wait_seconds) * (random / 4294967296.0);
}

HttpRequest S3Client::sign(const S3Object& object, const Request& request) const {
  const std::string endpoint =
      options_.endpoint.empty() ? fmt::format("https://s3.{}.amazonaws.com", options_.region) : options_.endpoint;
  const size_t host_at = endpoint.find("://") + 3;
  const bool encrypted = endpoint.starts_with("https");
  std::string scheme = endpoint.substr(0, host_at), host = endpoint.substr(host_at), path = "/" + object.key;
  if (options_.path_style)
    path = object.key.empty() ? "/" + object.bucket : fmt::format("/{}/{}", object.bucket, object.key);
  else
    host = fmt::format("{}.{}", object.bucket, host);
  const std::string date = now_as_amz_date();
  // TLS guards the bytes on their way; hashing them as well would cost more than sending them.
  const std::string hash = encrypted && !request.body.empty() ? "UNSIGNED-PAYLOAD" : to_hex(sha256(request.body));
  S3RequestToSign to_sign{
      .method = request.method, .path = path, .query = request.query, .headers = {}, .payload_hash = hash};
  to_sign.headers = {{"host", host}, {"x-amz-content-sha256", hash}, {"x-amz-date", date}};
  for (const auto& [name, value] : request.headers) to_sign.headers[name] = value;
  if (!options_.credentials.session_token.empty())
    to_sign.headers["x-amz-security-token"] = options_.credentials.session_token;
  HttpRequest http{.method = request.method,
                   .url = scheme + host + uri_encode(path, true),
                   .headers = {},
                   .body = request.body,
                   .into = request.into,
                   .send_once = request.completes};
  if (!request.query.empty()) http.url += "?" + encode_query(request.query);
  for (const auto& [name, value] : to_sign.headers)
    if (name != "host") http.headers.push_back(fmt::format("{}: {}", name, value));
  http.headers.push_back("authorization: " + s3_authorization(to_sign, options_.credentials, options_.region, date));
  return http;
}

S3Client::Answer S3Client::call(const S3Object& object, const Request& request) {
  const double end = monotonic_seconds() + options_.deadline_seconds;
  for (int attempt = 1;; ++attempt) {
    HttpLimits limits = options_.http;
    limits.seconds = std::clamp(end - monotonic_seconds(), 0.1, limits.seconds);
    // Signed anew: a signature is good for minutes.
    Answer answer{.response = http_.send(sign(object, request), limits), .num_attempts = attempt};
    HttpResponse& response = answer.response;
    if (request.needed_header != nullptr && response.status / 100 == 2 &&
        !response.headers.contains(request.needed_header)) {
      response.status = 0;
      response.error = fmt::format("the answer has no {}", request.needed_header);
    }
    if (response.status / 100 != 2 || (request.completes && response.body.find("<Error>") != std::string::npos)) {
      answer.code = xml_text(response.body, "Code").value_or("");
      answer.message = xml_text(response.body, "Message").value_or("");
    }
    if (answer.ok() || !is_worth_repeating(response.status, answer.code)) return answer;
    // Jitter keeps thousands of ranks apart; it changes no result.
    const uint64_t seed = static_cast<uint64_t>(::getpid()) << 32 ^ reinterpret_cast<uintptr_t>(this);
    const double wait = retry_wait_seconds(options_, attempt, random_bits({.seed = seed}, num_waits_++));
    if (monotonic_seconds() + wait >= end) return answer;
    ++num_repeated_;
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
  }
}

Status S3Client::error_of(const S3Object& object, const Request& request, const Answer& answer) const {
  const HttpResponse& response = answer.response;
  std::string message = fmt::format("[{}] {} ", path_text(object), request.method);
  if (response.status == 0)
    message += fmt::format("got no answer: {}", response.error);
  else
    message += fmt::format("was answered with {}{}{}", response.status, answer.code.empty() ? "" : " " + answer.code,
                           answer.message.empty() ? "" : fmt::format(" ({})", answer.message.substr(0, 300)));
  if (answer.num_attempts > 1) message += fmt::format(", after {} attempts", answer.num_attempts);
  if (const std::string what = advice(response.status, answer.code); !what.empty()) message += "; " + what;
  switch (response.status) {
    case kNotFoundStatus: return not_found(message);
    case 400:
    case 301:
    case 307: return invalid(message);
    case 507: return exhausted(message);
    default: return unavailable(message);
  }
}

Status S3Client::done(const S3Object& object, const Request& request) {
  const Answer answer = call(object, request);
  return answer.ok() ? ok_status() : error_of(object, request, answer);
}

Result<S3ObjectState> S3Client::head(const S3Object& object) {
  const Request request{.method = "HEAD", .needed_header = "content-length"};
  const Answer answer = call(object, request);
  if (!answer.ok()) return error_of(object, request, answer);
  const auto& headers = answer.response.headers;
  const auto etag = headers.find("etag");
  const auto num_bytes = whole_number(headers.at("content-length"));
  if (!num_bytes) return unavailable(fmt::format("[{}] the answer to HEAD has no length", path_text(object)));
  return S3ObjectState{.num_bytes = *num_bytes, .etag = etag == headers.end() ? "" : etag->second};
}

Status S3Client::get(const S3Object& object, int64_t offset, std::span<std::byte> into, const std::string& etag) {
  if (into.empty()) return ok_status();
  const auto size = static_cast<int64_t>(into.size());
  Request request{
      .method = "GET", .headers = {{"range", fmt::format("bytes={}-{}", offset, offset + size - 1)}}, .into = into};
  if (!etag.empty()) request.headers.emplace_back("if-match", etag);
  const Answer answer = call(object, request);
  if (answer.response.status == kPreconditionFailed)
    return unavailable(fmt::format("[{}] was replaced while it was read; read it again", path_text(object)));
  if (!answer.ok()) return error_of(object, request, answer);
  if (answer.response.status != kPartialContent || answer.response.num_bytes_into != size)
    return unavailable(fmt::format("[{}] bytes {} to {} were asked for; the answer is {} with {} bytes",
                                   path_text(object), offset, offset + size - 1, answer.response.status,
                                   answer.response.num_bytes_into));
  return ok_status();
}

Status S3Client::put(const S3Object& object, std::span<const std::byte> bytes) {
  return done(object, {.method = "PUT", .body = bytes});
}

Status S3Client::remove(const S3Object& object) {
  const Status removed = done(object, {.method = "DELETE"});
  return !removed.ok() && removed.code() == ErrorCode::kNotFound &&
                 removed.message().find("NoSuchBucket") == std::string::npos
             ? ok_status()
             : removed;
}

Result<S3Listing> S3Client::list(const S3Object& prefix, const std::string& delimiter, int64_t max_keys) {
  S3Listing listing;
  std::string token;
  const S3Object bucket{.bucket = prefix.bucket, .key = ""};
  do {
    Request request{.method = "GET", .query = {{"list-type", "2"}, {"prefix", prefix.key}}};
    if (!delimiter.empty()) request.query.emplace_back("delimiter", delimiter);
    if (!token.empty()) request.query.emplace_back("continuation-token", token);
    if (max_keys > 0) request.query.emplace_back("max-keys", fmt::format("{}", max_keys));
    const Answer answer = call(bucket, request);
    if (!answer.ok()) return error_of(prefix, request, answer);
    const std::string& body = answer.response.body;
    for (const std::string_view object : xml_elements(body, "Contents")) {
      const auto key = xml_text(object, "Key");
      const auto size = whole_number(xml_text(object, "Size").value_or(""));
      if (!key || !size)
        return unavailable(fmt::format("[{}] a listing has an object without key or size", path_text(prefix)));
      listing.objects.push_back({*key, *size});
    }
    for (const std::string_view common : xml_elements(body, "CommonPrefixes"))
      if (auto deeper = xml_text(common, "Prefix")) listing.prefixes.push_back(std::move(*deeper));
    const bool more = xml_text(body, "IsTruncated").value_or("") == "true" && max_keys == 0;
    std::string next = more ? xml_text(body, "NextContinuationToken").value_or("") : "";
    if (more && (next.empty() || next == token))
      return unavailable(fmt::format("[{}] a listing is cut and does not say how it goes on", path_text(prefix)));
    token = std::move(next);
  } while (!token.empty());
  return listing;
}

Result<std::string> S3Client::begin_upload(const S3Object& object) {
  const Request request{.method = "POST", .query = {{"uploads", ""}}};
  const Answer answer = call(object, request);
  if (!answer.ok()) return error_of(object, request, answer);
  auto id = xml_text(answer.response.body, "UploadId");
  if (!id || id->empty()) return unavailable(fmt::format("[{}] an upload in parts got no id", path_text(object)));
  return std::move(*id);
}

Result<std::string> S3Client::put_part(const S3Object& object, const std::string& upload_id, int number,
                                       std::span<const std::byte> bytes) {
  const Request request{.method = "PUT",
                        .query = {{"partNumber", fmt::format("{}", number)}, {"uploadId", upload_id}},
                        .body = bytes,
                        .needed_header = "etag"};
  const Answer answer = call(object, request);
  if (!answer.ok()) return error_of(object, request, answer);
  return answer.response.headers.at("etag");
}

Status S3Client::complete_upload(const S3Object& object, const std::string& upload_id,
                                 const std::vector<std::string>& etags, int64_t num_bytes) {
  std::string body = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < etags.size(); ++i)
    body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, xml_encode(etags[i]));
  body += "</CompleteMultipartUpload>";
  const Request request{.method = "POST",
                        .query = {{"uploadId", upload_id}},
                        .body = std::as_bytes(std::span(body.data(), body.size())),
                        .completes = true};
  const Answer answer = call(object, request);
  if (answer.ok()) return ok_status();
  // The answer to an attempt that worked may be lost; the next one then finds no such upload.
  if (answer.code == "NoSuchUpload" && answer.num_attempts > 1)
    if (const auto there = head(object); there.ok() && there->num_bytes == num_bytes) return ok_status();
  return error_of(object, request, answer);
}

Status S3Client::abort_upload(const S3Object& object, const std::string& upload_id) {
  const Status aborted = done(object, {.method = "DELETE", .query = {{"uploadId", upload_id}}});
  return !aborted.ok() && aborted.code() == ErrorCode::kNotFound ? ok_status() : aborted;
}

}  // namespace colossus
