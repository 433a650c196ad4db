// Sends appointment reminders by SMS: out of a queue that delivers at least once, through a provider that is limited, fails and hangs. No ASP.NET.
//   dotnet run --project samples/Worker                  a batch with incidents, about 15 s; prints what came of it, exits with 0 when nothing was lost or sent twice
//   dotnet run --project samples/Worker -- --forever     batch after batch, until Ctrl-C
//   --data FOLDER   keeps the queue, and what was sent, in FOLDER: the next run goes on where this one was stopped or killed
//   --tour          the same as without it
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Worker;

try
{
    var arguments = Arguments.Parse(args);
    using var folder = new DataFolder(arguments.Data);
    var provider = new SmsProvider(Path.Combine(folder.Path, "provider.db"), TimeProvider.System);

    HostApplicationBuilder builder = WorkerApplication.CreateBuilder(Path.Combine(folder.Path, "worker.db"), provider, arguments.Settings);
    builder.Services.AddSingleton(new BatchOptions(Reminders: 240, Incident: TimeSpan.FromSeconds(2), Forever: arguments.Forever, Console.Out));
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
