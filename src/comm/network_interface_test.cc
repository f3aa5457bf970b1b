#include "comm/network_interface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

TEST(NetworkInterface, LeadsToTheMachineItself) {
  EXPECT_EQ(interface_towards("127.0.0.1:2379").value(), "lo");
  EXPECT_EQ(interface_towards("localhost:2379").value(), "lo");
}

TEST(NetworkInterface, OfAHostThatIsNoneIsAnError) {
  const auto none = interface_towards("no-such-host.invalid:1");
  EXPECT_EQ(none.status().code(), ErrorCode::kInvalid);
  EXPECT_THAT(none.status().message(), testing::HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace colossus
