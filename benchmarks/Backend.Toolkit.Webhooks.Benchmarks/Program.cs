using Backend.Toolkit.Webhooks.Benchmarks;

if (args.Contains("--interleaved"))
{
    Interleaved.Print(TimeSpan.FromSeconds(args.Contains("--dry") ? 0.1 : 14));
    return 0;
}

return Comparison.Run(args);
