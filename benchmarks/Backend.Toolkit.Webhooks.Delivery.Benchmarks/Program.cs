return args switch
{
    ["receiver", ..] => await ReceiverProcess.RunAsync(args[1..]),
    ["hostile", ..] => await HostileProcess.RunAsync(args[1..]),
    _ when args.Contains("--enqueue") => await EnqueueInterleaved.RunAsync(),
    _ when args.Contains("--throughput") => await Throughput.RunAsync(args),
    _ when args.Contains("--hostile") => await Hostile.RunAsync(args),
    _ => Comparison.Run(args),
};
