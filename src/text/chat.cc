#include "text/chat.h"

#include <fmt/format.h>

namespace colossus {

namespace {

constexpr std::array<ChatRole, 3> kRoles = {ChatRole::kSystem, ChatRole::kUser, ChatRole::kAssistant};

std::string role_token(ChatRole role) { return fmt::format("<|{}|>", chat_role_name(role)); }

}  // namespace

const char* chat_role_name(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem: return "system";
    case ChatRole::kUser: return "user";
    case ChatRole::kAssistant: return "assistant";
  }
  return "unknown";
}

std::vector<std::string> chat_special_tokens() {
  std::vector<std::string> tokens = {std::string(kBosToken)};
  for (const ChatRole role : kRoles) tokens.push_back(role_token(role));
  tokens.emplace_back(kEndToken);
  return tokens;
}

Result<ChatFormat> ChatFormat::create(const Tokenizer& tokenizer) {
  std::string missing;
  for (const std::string& token : chat_special_tokens()) {
    if (!tokenizer.special(token)) missing += missing.empty() ? token : ", " + token;
  }
  if (!missing.empty()) {
    return invalid(
        fmt::format("the tokenizer cannot chat: it lacks the special tokens {}; train it with them", missing));
  }
  ChatFormat format(tokenizer);
  format.bos_ = *tokenizer.special(kBosToken);
  format.end_ = *tokenizer.special(kEndToken);
  for (const ChatRole role : kRoles) format.roles_[static_cast<size_t>(role)] = *tokenizer.special(role_token(role));
  return format;
}

Status ChatFormat::append_message(const ChatMessage& message, std::vector<int32_t>& out,
                                  std::vector<bool>* learned) const {
  out.push_back(role(message.role));
  if (learned) learned->resize(out.size(), false);
  RETURN_IF_ERROR(tokenizer_->encode(message.content, out, {.allow_special = false}));
  out.push_back(end_);
  if (learned) learned->resize(out.size(), message.role == ChatRole::kAssistant);
  return ok_status();
}

Result<std::vector<int32_t>> ChatFormat::render(const std::vector<ChatMessage>& messages, bool open_reply) const {
  std::vector<int32_t> ids = {bos_};
  for (size_t i = 0; i < messages.size(); ++i) {
    const Status status = append_message(messages[i], ids);
    if (!status.ok()) return status.at(fmt::format("message {}", i));
  }
  if (open_reply) ids.push_back(role(ChatRole::kAssistant));
  return ids;
}

}  // namespace colossus
