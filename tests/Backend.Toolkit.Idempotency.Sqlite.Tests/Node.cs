namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

internal static class Node
{
    public static Task<int> RunAsync(string[] args) => Task.FromResult(args.Length);
}
