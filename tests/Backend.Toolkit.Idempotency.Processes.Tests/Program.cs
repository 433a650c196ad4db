using Backend.Toolkit.Idempotency.Processes.Tests;
using Xunit.MicrosoftTestingPlatform;
using Xunit.Runner.InProc.SystemConsole;

// What the test framework would generate, and beside it: a node that can be killed.
return args switch
{
    ["node", ..] => await Node.RunAsync(args[1..]),
    _ when args.Contains("--server") || args.Contains("--internal-msbuild-node") => await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions),
    _ => await ConsoleRunner.Run(args),
};
