using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Backend.Toolkit.Webhooks.Delivery.Sqlite.Tests;
using Microsoft.Data.Sqlite;
using Xunit.MicrosoftTestingPlatform;
using Xunit.Runner.InProc.SystemConsole;

// What the test framework would generate, and beside it: a sender and a receiver, which are killed.
return args switch
{
    ["sender", var connection] => await WebhookSender.RunAsync(new SqliteWebhookDeliveryStore(new() { Name = "sender", ConnectionString = connection }), () => new SqliteConnection(connection)),
    ["receiver", ..] => await WebhookReceiver.RunAsync(args[1..]),
    _ when args.Contains("--server") || args.Contains("--internal-msbuild-node") => await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions),
    _ => await ConsoleRunner.Run(args),
};
