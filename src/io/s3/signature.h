// AWS Signature Version 4, as S3 wants it: "Authenticating Requests: Using the Authorization Header" of the Amazon S3
// API reference. libcurl of Debian 12 (7.88) signs too, but neither sorts nor encodes query parameters as S3 does.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colossus {

struct S3Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // "": none
};

using S3Query = std::vector<std::pair<std::string, std::string>>;  // not encoded

struct S3RequestToSign {
  std::string method;
  std::string path;  // not encoded: "/key", or "/bucket/key" in path style
  S3Query query = {};
  std::map<std::string, std::string> headers;  // names in lower case; "host" and all "x-amz-*" at least
  std::string payload_hash;                    // hexadecimal SHA-256, or "UNSIGNED-PAYLOAD"
};

// RFC 3986 with all but unreserved characters as %XX; '/' stays where it is kept.
std::string uri_encode(std::string_view text, bool keep_slashes);
// "a=1&b=%20", sorted.
std::string encode_query(S3Query query);

// The value of the Authorization header. `date` is that of x-amz-date: "20130524T000000Z".
std::string s3_authorization(const S3RequestToSign& request, const S3Credentials& credentials,
                             const std::string& region, const std::string& date);

}  // namespace colossus
