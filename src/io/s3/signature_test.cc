#include "io/s3/signature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

// The examples of the Amazon S3 API reference, "Signature Calculations for the Authorization Header".
const S3Credentials kCredentials{.access_key_id = "AKIAIOSFODNN7EXAMPLE",
                                 .secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                 .session_token = ""};
constexpr const char* kDate = "20130524T000000Z";
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::string sign(S3RequestToSign request) {
  request.headers["host"] = "examplebucket.s3.amazonaws.com";
  request.headers["x-amz-content-sha256"] = request.payload_hash;
  request.headers["x-amz-date"] = kDate;
  return s3_authorization(request, kCredentials, "us-east-1", kDate);
}

TEST(S3Signature, GetOfARange) {
  const std::string header =
      sign({.method = "GET", .path = "/test.txt", .headers = {{"range", "bytes=0-9"}}, .payload_hash = kEmpty});
  EXPECT_EQ(header,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(S3Signature, PutOfAKeyThatIsEncoded) {
  EXPECT_THAT(
      sign({.method = "PUT",
            .path = "/test$file.text",
            .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
            .payload_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}),
      EndsWith("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST(S3Signature, QueriesWithAndWithoutValues) {
  EXPECT_THAT(sign({.method = "GET", .path = "/", .query = {{"lifecycle", ""}}, .headers = {}, .payload_hash = kEmpty}),
              EndsWith("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
  EXPECT_THAT(sign({.method = "GET",
                    .path = "/",
                    .query = {{"prefix", "J"}, {"max-keys", "2"}},
                    .headers = {},
                    .payload_hash = kEmpty}),
              EndsWith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST(S3Signature, EncodingIsThatOfS3) {
  EXPECT_EQ(uri_encode("a b/c+d~e\xc3\xa9", true), "a%20b/c%2Bd~e%C3%A9");
  EXPECT_EQ(uri_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(encode_query({{"uploads", ""}, {"prefix", "a/b c"}}), "prefix=a%2Fb%20c&uploads=");
}

}  // namespace
}  // namespace colossus
