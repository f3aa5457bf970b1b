// Unicode's normal forms, with alignment.
#pragma once

#include "text/aligned_text.h"

namespace colossus {

// NFD, NFKD (compatibility), and with `compose` NFC, NFKC. Bytes that are no UTF-8 stay, and nothing crosses them.
AlignedText to_unicode_form(const AlignedText& text, bool compatibility, bool compose);

}  // namespace colossus
