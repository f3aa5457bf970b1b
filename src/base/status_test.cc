#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace colossus {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return invalid("odd");
  return value / 2;
}

Status quarter(int value, int& result) {
  ASSIGN_OR_RETURN(const int once, half(value));
  ASSIGN_OR_RETURN(result, half(once));
  RETURN_IF_ERROR(half(2 * result));
  return ok_status();
}

TEST(Status, CarriesCodeAndPlace) {
  EXPECT_TRUE(ok_status().ok());
  EXPECT_TRUE(ok_status().at("here").ok());
  const Status status = corrupt("cut").at("file").at("run");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kCorrupt);
  EXPECT_EQ(status.message(), "[run] [file] cut");
  EXPECT_STREQ(error_code_name(ErrorCode::kExhausted), "exhausted");
}

TEST(Result, GoesThroughTheMacros) {
  int result = 0;
  EXPECT_TRUE(quarter(12, result).ok());
  EXPECT_EQ(result, 3);
  EXPECT_EQ(quarter(6, result).message(), "odd");
  EXPECT_EQ(quarter(5, result).code(), ErrorCode::kInvalid);
}

TEST(Result, HoldsWhatCanOnlyMove) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(7);
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made.status().ok());
  const std::unique_ptr<int> taken = std::move(made).value();
  EXPECT_EQ(*taken, 7);
}

TEST(ResultDeathTest, TheValueOfAFailureIsOurMistake) { EXPECT_DEATH(static_cast<void>(half(3).value()), "odd"); }

}  // namespace
}  // namespace colossus
