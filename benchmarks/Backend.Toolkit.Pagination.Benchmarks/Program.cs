using Backend.Toolkit.Pagination.Benchmarks;

if (args.Contains("--depth"))
{
    await Depth.PrintAsync(args.Contains("--dry") ? 10_000 : 1_000_000);
    return 0;
}

int result = Comparison.Run(args);
if (args.Contains("--dry"))
{
    await Depth.PrintAsync(10_000);
}

return result;
