// Runs the cases of an FP group one after the other without a reset, and prints for each: cycles, operations, sums.
module fp_bench;
  parameter CASES = 1, SPIKES = 1, BLOCKS = 32, EMPTY = 1, ROWS = 1, QUEUE = 0, LANES = 4;
  reg [31:0] spikes [0:SPIKES-1];
  reg [32*LANES*16-1:0] blocks [0:BLOCKS-1];  // the weights of a word's 32 inputs, block by block
  reg [95:0] cases [0:CASES-1];  // words, place of its spikes (all words of a row, then of the next), of its first block

  reg clk = 0, start = 0;
  reg [31:0] words, spike_base, block_base, cycles, operations;
  wire [ROWS*16-1:0] address;
  reg [ROWS*32-1:0] data;
  wire [15:0] block;
  wire [ROWS*32-1:0] row_operations;
  wire [ROWS*LANES*32-1:0] sums;
  wire busy;
  integer c, r, l;

  fp_group #(.ROWS(ROWS), .QUEUE(QUEUE), .EMPTY(EMPTY), .LANES(LANES)) group (
    .clk(clk), .start(start), .words(words[15:0]), .spike_address(address), .spikes(data), .block(block),
    .block_weights(blocks[(block_base + block) % BLOCKS]), .busy(busy), .operations(row_operations), .sums(sums));

  always #1 clk = ~clk;

  always @(posedge clk) begin
    for (r = 0; r < ROWS; r = r + 1) data[r*32 +: 32] <= spikes[spike_base + r * words + address[r*16 +: 16]];
    cycles <= start ? 0 : cycles + busy;
  end

  initial begin
    $readmemh("spikes.hex", spikes);
    $readmemh("blocks.hex", blocks);
    $readmemh("cases.hex", cases);
    for (c = 0; c < CASES; c = c + 1) begin
      @(negedge clk) {block_base, spike_base, words} = cases[c];
      start = 1;
      @(negedge clk) start = 0;
      while (busy) @(negedge clk);
      operations = 0;
      for (l = 0; l < ROWS; l = l + 1) operations = operations + row_operations[l*32 +: 32];
      $write("%0d %0d", cycles, operations);
      for (l = 0; l < ROWS * LANES; l = l + 1) $write(" %0d", $signed(sums[l*32 +: 32]));
      $write("\n");
    end
    $finish;
  end
endmodule
