# Writes a C++ source with the files of configs/, so that the program has them wherever it lies.
#   cmake -D OUTPUT=... -D ROOT=... -P ready_files.cmake
file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/configs/*.toml ${ROOT}/configs/*.csv)
list(SORT files)
set(text "#include \"plan/ready_files.h\"\n\nnamespace colossus {\n\nstd::span<const ReadyFile> ready_file_table() {\n")
string(APPEND text "  static constexpr ReadyFile kFiles[] = {\n")
foreach(file IN LISTS files)
  file(READ ${ROOT}/${file} content)
  string(APPEND text "      {\"${file}\", R\"ready(${content})ready\"},\n")
endforeach()
string(APPEND text "  };\n  return kFiles;\n}\n\n}  // namespace colossus\n")
file(WRITE ${OUTPUT} "${text}")
