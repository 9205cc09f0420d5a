# add_lowbit_library(LowbitX SOURCES … [DEPENDS tablegen-target …] [LINK libraries …])
#   A static library of the compiler. Libraries never link MLIR; the few final binaries do (see
#   link_lowbit_binary), so that exactly one copy of MLIR is in a process.
function(add_lowbit_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  add_dependencies(${name} LowbitTableGen)
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
endfunction()

# link_lowbit_binary(target library …): the given lowbit libraries plus the shared MLIR and LLVM.
function(link_lowbit_binary name)
  target_link_libraries(${name} PRIVATE ${ARGN} MLIR LLVM)
endfunction()
