#include "comm/etcd_messages.h"

#include <fmt/format.h>

#include <charconv>

#include "base/base64.h"
#include "io/checked_json.h"

namespace colossus {
namespace {

// Codes of gRPC that etcd answers with.
constexpr int64_t kDeadlineExceeded = 4, kResourceExhausted = 8, kUnavailable = 14;

EtcdRequest put_if(std::string_view key, std::string_view condition, std::string_view value) {
  const std::string name = encode_base64(key);
  return {"/v3/kv/txn", fmt::format(R"({{"compare":[{{"key":"{}","result":"EQUAL",{}}}],)"
                                    R"("success":[{{"request_put":{{"key":"{}","value":"{}"}}}}]}})",
                                    name, condition, name, encode_base64(value))};
}

// Printable, in case the other end is no etcd and answers with anything.
std::string beginning(std::string_view body) {
  std::string text;
  for (const char c : body.substr(0, 80)) text += c >= ' ' && c <= '~' ? c : '?';
  return body.size() > 80 ? text + "…" : text;
}

Status no_answer(std::string_view what, std::string_view body) {
  return corrupt(fmt::format("the answer is not etcd's: {} in \"{}\"", what, beginning(body)));
}

Result<Json> parse_answer(std::string_view body) {
  auto answer = parse_checked_json(body);
  if (!answer.ok() || !answer->is_object()) return no_answer("no JSON object", body);
  if (!answer->contains("header") || !(*answer)["header"].is_object()) return no_answer("no header", body);
  return answer;
}

// null: absent, which is how empty and zero are written.
const Json* find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::optional<std::string> bytes_of(const Json& object, const char* name) {
  const Json* text = find(object, name);
  if (text == nullptr) return "";
  if (!text->is_string()) return std::nullopt;
  return decode_base64(text->get_ref<const std::string&>());
}

std::optional<int64_t> number_of(const Json& object, const char* name) {
  const Json* text = find(object, name);
  if (text == nullptr) return 0;
  if (!text->is_string()) return std::nullopt;
  const std::string& digits = text->get_ref<const std::string&>();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

}  // namespace

EtcdRequest etcd_range(std::string_view key) {
  return {"/v3/kv/range", fmt::format(R"({{"key":"{}"}})", encode_base64(key))};
}

EtcdRequest etcd_put(std::string_view key, std::string_view value) {
  return {"/v3/kv/put", fmt::format(R"({{"key":"{}","value":"{}"}})", encode_base64(key), encode_base64(value))};
}

EtcdRequest etcd_delete(std::string_view key) {
  return {"/v3/kv/deleterange", fmt::format(R"({{"key":"{}"}})", encode_base64(key))};
}

EtcdRequest etcd_put_if_absent(std::string_view key, std::string_view value) {
  return put_if(key, R"("target":"CREATE","create_revision":"0")", value);
}

EtcdRequest etcd_put_if_value(std::string_view key, std::string_view expected, std::string_view value) {
  return put_if(key, fmt::format(R"("target":"VALUE","value":"{}")", encode_base64(expected)), value);
}

EtcdRequest etcd_put_if_revision(std::string_view key, int64_t revision, std::string_view value) {
  return put_if(key, fmt::format(R"("target":"MOD","mod_revision":"{}")", revision), value);
}

Result<std::optional<EtcdValue>> parse_etcd_range(std::string_view body, std::string_view key) {
  ASSIGN_OR_RETURN(const Json answer, parse_answer(body));
  const Json* found = find(answer, "kvs");
  const std::optional<int64_t> count = number_of(answer, "count");
  if (!count || (found != nullptr && !found->is_array())) return no_answer("no list of values", body);
  if (*count != static_cast<int64_t>(found == nullptr ? 0 : found->size()) || *count > 1) {
    return no_answer("not at most one value", body);
  }
  if (*count == 0) return std::optional<EtcdValue>();
  const Json& entry = found->front();
  if (!entry.is_object()) return no_answer("no value", body);
  if (bytes_of(entry, "key") != key) return no_answer("another key", body);
  std::optional<std::string> value = bytes_of(entry, "value");
  const std::optional<int64_t> revision = number_of(entry, "mod_revision");
  if (!value) return no_answer("a value that is not base64", body);
  if (!revision || *revision <= 0) return no_answer("no revision", body);
  return std::optional(EtcdValue{.value = *std::move(value), .revision = *revision});
}

Result<bool> parse_etcd_put_if(std::string_view body) {
  ASSIGN_OR_RETURN(const Json answer, parse_answer(body));
  const Json* succeeded = find(answer, "succeeded");
  if (succeeded == nullptr) return false;
  if (!succeeded->is_boolean()) return no_answer("no truth value", body);
  return succeeded->get<bool>();
}

Status parse_etcd_done(std::string_view body) { return parse_answer(body).status(); }

Status etcd_error(int64_t http_code, std::string_view body) {
  const auto parsed = parse_checked_json(body);
  const Json answer = parsed.ok() ? *parsed : Json();
  const Json* reason = answer.is_object() ? find(answer, "error") : nullptr;
  const Json* code = answer.is_object() ? find(answer, "code") : nullptr;
  if (reason == nullptr || !reason->is_string() || code == nullptr || !code->is_number_integer()) {
    const std::string message = fmt::format("HTTP code {}, \"{}\"", http_code, beginning(body));
    return http_code >= 500 ? unavailable(message) : invalid(message + "; it needs the v3 API (etcd 3.4 or later)");
  }
  std::string message = beginning(reason->get_ref<const std::string&>());
  const int64_t grpc_code = code->get<int64_t>();
  if (grpc_code == kUnavailable || grpc_code == kDeadlineExceeded) return unavailable(std::move(message));
  return grpc_code == kResourceExhausted ? exhausted(std::move(message)) : invalid(std::move(message));
}

}  // namespace colossus
