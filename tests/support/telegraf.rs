//! What Telegraf's standard inputs write, as line protocol: the measurements, tags, fields and types
//! of its documentation, with values that a test can foretell.

#![allow(dead_code, unreachable_pub)]

use std::fmt::Write;

/// Hosts `web-0` … with racks `r0`, `r1`, samples every ten seconds over `[from, to)` seconds since
/// the epoch; times in milliseconds.
pub fn lines(hosts: usize, from: i64, to: i64) -> String {
    let mut out = String::new();
    for second in (from..to).step_by(10) {
        for h in 0..hosts {
            host(&mut out, h, second - from, second * 1000);
        }
    }
    out
}

fn host(out: &mut String, h: usize, age: i64, at: i64) {
    let tags = format!("host=web-{h},rack=r{},site=fra", h % 2);
    let idle = 90.0 - h as f64;
    let mut line = |text: String| writeln!(out, "{text} {at}").expect("text");
    // Every core apart too: only `cpu-total` must count.
    line(format!("cpu,cpu=cpu-total,{tags} usage_idle={idle},usage_iowait=0.5,usage_user=3.25"));
    line(format!("cpu,cpu=cpu0,{tags} usage_idle=1,usage_iowait=50"));
    line(format!("mem,{tags} used_percent={},available=123i", 40 + h));
    line(format!("disk,device=sda1,fstype=ext4,mode=rw,path=/,{tags} used_percent=30,free=7i"));
    line(format!("disk,device=sdb1,fstype=ext4,mode=rw,path=/data,{tags} used_percent={}", 60 + h));
    // 20 writes and 100 ms of writing a second on sda: 5 ms each; its partition counts the same again.
    for (name, ms) in [("sda", 100), ("sda1", 100), ("sdb", 40), ("loop0", 9999)] {
        line(format!(
            "diskio,name={name},{tags} reads={}i,read_time={}i,writes={}i,write_time={}i,read_bytes={}i,write_bytes={}i",
            age * 10,
            age * 20,
            age * 20,
            age * ms,
            age * 1000,
            age * 3000
        ));
    }
    for (interface, bytes) in [("eth0", 5000), ("lo", 777_777), ("docker0", 888_888)] {
        line(format!(
            "net,interface={interface},{tags} bytes_recv={}i,bytes_sent={}i",
            age * bytes,
            age * 2 * bytes
        ));
    }
    line(format!("system,{tags} load1=0.75,n_cpus=4i"));
    line(format!("system,{tags} uptime={age}i,uptime_format=\"0 days\""));
    line(format!("temp,sensor=coretemp_core_0_input,{tags} temp={}", 50 + h));
    line(format!("temp,sensor=acpitz_input,{tags} temp=27"));
    line(format!("ping,url=10.0.0.1,{tags} average_response_ms=0.5,percent_packet_loss=0,result_code=0i"));
    line(format!("ping,url=10.0.0.2,{tags} average_response_ms=1.5,percent_packet_loss=4,result_code=0i"));
    line(format!("processes,{tags} blocked=2i,total=180i,zombies=0i"));
}
