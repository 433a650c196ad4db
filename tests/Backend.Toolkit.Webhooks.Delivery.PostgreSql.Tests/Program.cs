using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql.Tests;
using Npgsql;
using Xunit.MicrosoftTestingPlatform;
using Xunit.Runner.InProc.SystemConsole;

// What the test framework would generate, and beside it: a sender and a receiver, which are killed.
return args switch
{
    ["sender", var connection] => await WebhookSender.RunAsync(new PostgreSqlWebhookDeliveryStore(new() { Name = "sender", DataSource = NpgsqlDataSource.Create(connection) }), () => new NpgsqlConnection(connection)),
    ["receiver", ..] => await WebhookReceiver.RunAsync(args[1..]),
    _ when args.Contains("--server") || args.Contains("--internal-msbuild-node") => await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions),
    _ => await ConsoleRunner.Run(args),
};
