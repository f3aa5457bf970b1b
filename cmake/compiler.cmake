# Flags for every target. The baseline processor has AVX2; wider instructions live in files that choose at run time.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(colossus_flags INTERFACE)
target_include_directories(colossus_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(colossus_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wno-unused-parameter -Wno-missing-field-initializers
  $<$<CONFIG:Release>:-O2>
  # Contracting a*b+c into one rounding is left to kernels that say so: results must not depend on inlining.
  -ffp-contract=off)
if(COLOSSUS_SANITIZE STREQUAL "address")
  target_compile_options(colossus_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(colossus_flags INTERFACE -fsanitize=address,undefined)
elseif(COLOSSUS_SANITIZE STREQUAL "thread")
  target_compile_options(colossus_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(colossus_flags INTERFACE -fsanitize=thread)
endif()
