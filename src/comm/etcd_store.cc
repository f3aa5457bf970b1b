#include "comm/etcd_store.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <charconv>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "comm/etcd_messages.h"

namespace colossus {
namespace {

// Base64 of the longest value, and room for the rest of an answer.
constexpr size_t kMaxAnswerBytes = static_cast<size_t>(KeyValueStore::kMaxValueBytes) / 3 * 4 + (size_t{64} << 10);
// etcd takes requests of up to 1.5 MiB: two of the longest values do not fit into one.
constexpr size_t kMaxComparedBytes = size_t{256} << 10;

struct CloseHandle {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using Handle = std::unique_ptr<CURL, CloseHandle>;
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

struct Answer {
  enum class Outcome {
    kAnswered,
    kNotSent,  // surely
    kLost,     // it may have been heard
    kTooLong,
  };
  Outcome outcome = Outcome::kAnswered;
  int64_t http_code = 0;
  std::string body;
  std::string reason;  // of the outcome, unless answered
};

size_t take_bytes(const char* bytes, size_t, size_t count, void* into) {
  Answer& answer = *static_cast<Answer*>(into);
  if (answer.body.size() + count > kMaxAnswerBytes) {
    answer.outcome = Answer::Outcome::kTooLong;
    return 0;  // ends the transfer
  }
  answer.body.append(bytes, count);
  return count;
}

// Handles keep connections open. As many as threads were in a call at once.
class HttpClient {
 public:
  HttpClient() {
    headers_.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
    // Without it large bodies wait for a permission that etcd does not send.
    curl_slist_append(headers_.get(), "Expect:");
  }

  struct Limits {
    double connect_seconds = 0;
    double seconds = 0;
    bool send_once = false;
  };

  Answer post(const std::string& endpoint, const EtcdRequest& request, const Limits& limits) {
    Handle handle = take_handle();
    if (handle == nullptr) return {.outcome = Answer::Outcome::kNotSent, .reason = "no memory for a connection"};
    Answer answer;
    std::array<char, CURL_ERROR_SIZE> error{};
    CURL* const curl = handle.get();
    const auto milliseconds = [](double seconds) { return std::max(1L, static_cast<long>(seconds * 1e3)); };
    curl_easy_setopt(curl, CURLOPT_URL, fmt::format("http://{}{}", endpoint, request.path).c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error.data());
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(limits.connect_seconds));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(limits.seconds));
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    // Machines of a cluster reach each other directly, whatever the environment says about the world outside.
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    // curl sends a request again, unasked, when an old connection ends without an answer.
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, limits.send_once ? 1L : 0L);
    const CURLcode code = curl_easy_perform(curl);
    long http_code = 0, sent_bytes = 0, os_error = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_code);
    curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent_bytes);
    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
    answer.http_code = http_code;
    // The handle outlives what these point to.
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
    give_back(std::move(handle));
    if (answer.outcome == Answer::Outcome::kTooLong) {
      answer.reason = fmt::format("answered with more than {} bytes", kMaxAnswerBytes);
    } else if (code != CURLE_OK) {
      answer.outcome = sent_bytes == 0 ? Answer::Outcome::kNotSent : Answer::Outcome::kLost;
      answer.reason = error[0] != '\0' ? error.data() : curl_easy_strerror(code);
      // curl says only that it could not.
      if (code == CURLE_COULDNT_CONNECT && os_error != 0) {
        answer.reason = std::generic_category().message(static_cast<int>(os_error));
      }
    }
    return answer;
  }

 private:
  Handle take_handle() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        Handle handle = std::move(idle_.back());
        idle_.pop_back();
        return handle;
      }
    }
    return Handle(curl_easy_init());
  }

  void give_back(Handle handle) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(handle));
  }

  std::unique_ptr<curl_slist, FreeList> headers_;
  std::mutex mutex_;
  std::vector<Handle> idle_;
};

enum class Kind { kRead, kChange };

class EtcdStore final : public KeyValueStore {
 public:
  explicit EtcdStore(EtcdOptions options) : options_(std::move(options)) {}

  Status set(const std::string& key, const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    const auto parse = [](const std::string& body) { return parse_etcd_done(body); };
    return call(Kind::kChange, etcd_put(path_of(key), value), deadline(), parse);
  }

  Result<std::optional<std::string>> get(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    ASSIGN_OR_RETURN(std::optional<EtcdValue> found, read(key, deadline()));
    if (!found) return std::optional<std::string>();
    return std::optional(std::move(found->value));
  }

  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    const std::string path = path_of(key);
    const double end = deadline();
    if (!expected) return put_if(etcd_put_if_absent(path, value), end);
    if (expected->size() <= kMaxComparedBytes) return put_if(etcd_put_if_value(path, *expected, value), end);
    // Too long to send along: compared here, and put if nobody was faster.
    for (;;) {
      ASSIGN_OR_RETURN(const std::optional<EtcdValue> found, read(key, end));
      if (!found || found->value != *expected) return false;
      ASSIGN_OR_RETURN(const bool done, put_if(etcd_put_if_revision(path, found->revision, value), end));
      if (done) return true;
    }
  }

  Status remove(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    const auto parse = [](const std::string& body) { return parse_etcd_done(body); };
    return call(Kind::kChange, etcd_delete(path_of(key)), deadline(), parse);
  }

 private:
  double deadline() const { return monotonic_seconds() + options_.call_seconds; }
  std::string path_of(const std::string& key) const {
    return options_.prefix.empty() ? key : options_.prefix + "/" + key;
  }

  Result<std::optional<EtcdValue>> read(const std::string& key, double end) {
    std::optional<EtcdValue> found;
    const std::string path = path_of(key);
    RETURN_IF_ERROR(call(Kind::kRead, etcd_range(path), end, [&](const std::string& body) -> Status {
      ASSIGN_OR_RETURN(found, parse_etcd_range(body, path));
      return found ? check_value(key, found->value) : ok_status();
    }));
    return found;
  }

  Result<bool> put_if(const EtcdRequest& request, double end) {
    bool done = false;
    RETURN_IF_ERROR(call(Kind::kChange, request, end, [&](const std::string& body) -> Status {
      ASSIGN_OR_RETURN(done, parse_etcd_put_if(body));
      return ok_status();
    }));
    return done;
  }

  template <class Parse>
  Status call(Kind kind, const EtcdRequest& request, double end, const Parse& parse) {
    const size_t num_endpoints = options_.endpoints.size();
    const size_t first = preferred_;
    std::vector<std::string> reasons;
    for (size_t i = 0; i < num_endpoints; ++i) {
      const size_t index = (first + i) % num_endpoints;
      const std::string& endpoint = options_.endpoints[index];
      const double remaining = end - monotonic_seconds();
      if (remaining <= 0) break;
      // A fair share, so that one that is silent leaves time for the others.
      const double share = remaining / static_cast<double>(num_endpoints - i);
      const Answer answer = client_.post(endpoint, request,
                                         {.connect_seconds = share,
                                          .seconds = kind == Kind::kRead ? share : remaining,
                                          .send_once = kind == Kind::kChange});
      Status status = judge(answer, parse);
      if (status.ok()) {
        preferred_ = index;
        return status;
      }
      if (status.code() != ErrorCode::kUnavailable) return status.at("etcd at " + endpoint);
      preferred_ = (index + 1) % num_endpoints;
      reasons.push_back(fmt::format("{}: {}", endpoint, status.message()));
      if (kind == Kind::kChange && answer.outcome != Answer::Outcome::kNotSent) {
        reasons.back() += "; the change may be done, now or later";
        break;
      }
    }
    if (reasons.empty()) reasons.push_back(fmt::format("{:g} s were not enough", options_.call_seconds));
    return unavailable(fmt::format("etcd at {}", fmt::join(reasons, "; ")));
  }

  template <class Parse>
  static Status judge(const Answer& answer, const Parse& parse) {
    switch (answer.outcome) {
      case Answer::Outcome::kAnswered: break;
      case Answer::Outcome::kTooLong: return invalid(answer.reason);
      case Answer::Outcome::kNotSent:
      case Answer::Outcome::kLost: return unavailable(answer.reason);
    }
    return answer.http_code == 200 ? parse(answer.body) : etcd_error(answer.http_code, answer.body);
  }

  const EtcdOptions options_;
  HttpClient client_;
  std::atomic<size_t> preferred_ = 0;
};

Status check_endpoint(std::string_view endpoint) {
  const size_t colon = endpoint.rfind(':');
  const std::string_view host = endpoint.substr(0, colon == std::string_view::npos ? 0 : colon);
  const std::string_view digits = colon == std::string_view::npos ? "" : endpoint.substr(colon + 1);
  int port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  const bool has_port = error == std::errc() && end == digits.data() + digits.size() && port > 0 && port < 65536;
  const auto consists_of = [](std::string_view text, std::string_view more) {
    return !text.empty() && std::ranges::all_of(text, [&](unsigned char c) {
      return (c < 128 && std::isalnum(c) != 0) || more.find(static_cast<char>(c)) != std::string_view::npos;
    });
  };
  const bool is_address = host.starts_with('[') && host.ends_with(']');
  if (has_port && (is_address ? consists_of(host.substr(1, host.size() - 2), ":.%") : consists_of(host, "-._"))) {
    return ok_status();
  }
  return invalid(fmt::format("\"{}\" is not an endpoint of etcd; it needs host:port, like node-0:2379", endpoint));
}

}  // namespace

Result<std::unique_ptr<KeyValueStore>> open_etcd_store(EtcdOptions options) {
  if (options.endpoints.empty()) return invalid("etcd needs at least one endpoint, host:port");
  for (const std::string& endpoint : options.endpoints) RETURN_IF_ERROR(check_endpoint(endpoint));
  if (!options.prefix.empty()) RETURN_IF_ERROR(check_key(options.prefix));
  if (!(options.call_seconds > 0 && options.call_seconds < 1e6)) {
    return invalid(fmt::format("a call to etcd cannot take at most {} s", options.call_seconds));
  }
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);  // once per process, before the first handle
  if (started != CURLE_OK) return unavailable(fmt::format("libcurl: {}", curl_easy_strerror(started)));
  return std::unique_ptr<KeyValueStore>(std::make_unique<EtcdStore>(std::move(options)));
}

}  // namespace colossus
