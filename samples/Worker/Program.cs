// Sends appointment reminders by SMS: out of a queue that delivers at least once, through a provider that is limited, fails and hangs. No ASP.NET.
//   dotnet run --project samples/Worker                  a batch with incidents, about 15 s; prints what came of it, exits with 0 when nothing was lost or sent twice
//   dotnet run --project samples/Worker -- --forever     batch after batch, until Ctrl-C
//   --data FOLDER   keeps the queue, and what was sent, in FOLDER: the next run goes on where this one was stopped or killed
//   --tour          the same as without it
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Worker;

try
{
    string[] unknown = [.. args.Where(argument => argument is not ("--tour" or "--forever" or "--data") && argument.StartsWith('-') && !argument.Contains('='))];
    if (unknown.Length > 0)
    {
        throw new ArgumentException($"The arguments must be --tour, --forever, --data FOLDER or --setting=value, but one is {unknown[0]}.");
    }

    string[] settings = [.. args.Except(["--tour", "--forever"])];
    using var folder = new DataFolder(new ConfigurationBuilder().AddCommandLine(settings).Build()["data"]);
    var provider = new SmsProvider(Path.Combine(folder.Path, "provider.db"), TimeProvider.System);

    HostApplicationBuilder builder = WorkerApplication.CreateBuilder(Path.Combine(folder.Path, "worker.db"), provider, settings);
    builder.Services.AddSingleton(new BatchOptions(Reminders: 240, Incident: TimeSpan.FromSeconds(2), Forever: args.Contains("--forever"), Console.Out));
    builder.Services.AddSingleton<Batch>();
    builder.Services.AddHostedService(services => services.GetRequiredService<Batch>());
    using IHost worker = builder.Build();
    Batch batch = worker.Services.GetRequiredService<Batch>();
    await worker.RunAsync();
    return batch.ExitCode;
}
catch (Exception refused)
{
    Console.Error.WriteLine(refused.Message);
    return 1;
}
