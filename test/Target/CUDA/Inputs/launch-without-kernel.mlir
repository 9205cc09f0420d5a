func.func @main_graph(%x: memref<4xi8>, %y: memref<4xf32>) {
  lowbit_rt.launch @nobody ins(%x : memref<4xi8>) outs(%y : memref<4xf32>)
  return
}
